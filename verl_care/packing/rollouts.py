"""verl's agent-loop worker, which runs a prompt's media through the processor once and not once per response.

`actor_rollout_ref.rollout.agent.agent_loop_manager_class=verl_care.packing.rollouts.PackedAgentLoopManager`
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from functools import cached_property
from typing import Any

import ray
import torch
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopManagerTQ, AgentLoopWorkerTQ

from verl_care.packing import media
from verl_care.settings import CareConfig

_inputs: ContextVar[dict[str, Any] | None] = ContextVar("inputs", default=None)
"""Of the response that this task finishes: its prompt's media, without the pixels."""


class PackedAgentLoopWorker(AgentLoopWorkerTQ.__ray_metadata__.modified_class.__ray_actor_class__):  # type: ignore[misc]
    """One of verl's workers; all responses to a prompt are made by the same."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._prompts: dict[str, asyncio.Task[dict[str, Any]]] = {}

    @cached_property
    def _validation_is_scored(self) -> bool:
        return CareConfig.from_config(self.config).scores_validation(self.config)

    async def _run_prompt(self, prompt: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        uid = prompt["uid"]
        try:
            await super()._run_prompt(prompt, *args, **kwargs)
        finally:
            self._prompts.pop(uid, None)

    async def _agent_loop_postprocess(self, output: Any, validate: bool, **kwargs: Any) -> None:
        first, uid = output[0] if isinstance(output, list) else output, kwargs["uid"]
        store = not validate or self._validation_is_scored
        if uid not in self._prompts:
            self._prompts[uid] = asyncio.ensure_future(self._process(first, uid, store))
        _inputs.set(await self._prompts[uid])
        await super()._agent_loop_postprocess(output, validate, **kwargs)

    async def _process(self, output: Any, uid: str, store: bool) -> dict[str, Any]:
        """The prompt's media as the processor makes them, pixels stored apart, if a pass of the trainer needs them."""
        inputs = super()._compute_multi_modal_inputs(output, torch.tensor(output.prompt_ids))
        pixels, small = media.divide(inputs)
        if pixels and store:
            await media.store(uid, pixels)
            small[media.STORED_UNDER] = uid
        return small

    def _compute_multi_modal_inputs(self, output: Any, input_ids: Any) -> dict[str, Any]:
        inputs = _inputs.get()
        assert inputs is not None, "set in _agent_loop_postprocess"
        return dict(inputs)  # verl takes entries out of it


class PackedAgentLoopManager(AgentLoopManagerTQ):
    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.agent_loop_workers_class = ray.remote(PackedAgentLoopWorker)
