"""verl's agent-loop worker, which does once for a group what verl does for every response: a prompt's tokens and media
are made once, and the rows of a group are put into TransferQueue together.

`actor_rollout_ref.rollout.agent.agent_loop_manager_class=verl_care.packing.rollouts.PackedAgentLoopManager`
"""

from __future__ import annotations

from contextvars import ContextVar
from functools import cached_property
from typing import Any, NamedTuple

import ray
import torch
import wrapt
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopManagerTQ, AgentLoopWorkerTQ
from verl.utils.tensordict_utils import list_of_dict_to_tensordict

from verl_care import compat
from verl_care.packing import media
from verl_care.packing.group import Group, current
from verl_care.settings import CareConfig

_inputs: ContextVar[dict[str, Any] | None] = ContextVar("inputs", default=None)
"""Of the response that this task finishes: its prompt's media, without the pixels."""


class PackedAgentLoopWorker(AgentLoopWorkerTQ.__ray_metadata__.modified_class.__ray_actor_class__):  # type: ignore[misc]
    """One of verl's workers; all responses to a prompt are made by the same."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        compat.put_rows_by(RowsTogether)

    @cached_property
    def _validation_is_scored(self) -> bool:
        return CareConfig.from_config(self.config).scores_validation(self.config)

    async def _run_prompt(self, *args: Any, **kwargs: Any) -> None:
        current.set(Group())  # in this prompt's task, and in those that verl creates from it
        await super()._run_prompt(*args, **kwargs)

    async def _run_agent_loop(self, *args: Any, **kwargs: Any) -> None:
        with _group().response():
            await super()._run_agent_loop(*args, **kwargs)

    async def _agent_loop_postprocess(self, output: Any, validate: bool, **kwargs: Any) -> None:
        first, uid = output[0] if isinstance(output, list) else output, kwargs["uid"]
        store = not validate or self._validation_is_scored
        _inputs.set(await _group().once("media", lambda: self._process(first, uid, store)))
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


class Put(NamedTuple):
    """The arguments of one response's put."""

    keys: list[str]
    rows: list[dict[str, Any]]
    tags: list[dict[str, Any]]
    partition_id: str


class RowsTogether(wrapt.ObjectProxy):
    """The module `transfer_queue`, for which the rows of a group are one put, and columns are made of them then.

    A put is four questions to other processes, and nobody looks at a group's rows before the last of them is there.
    """

    async def async_kv_batch_put(
        self, keys: list[str], fields: list[dict[str, Any]], tags: list[dict[str, Any]], partition_id: str
    ) -> None:
        await _group().together(Put(keys, fields, tags, partition_id), self._put)

    async def _put(self, puts: list[Put]) -> None:
        await self.__wrapped__.async_kv_batch_put(
            keys=[key for put in puts for key in put.keys],
            fields=list_of_dict_to_tensordict([row for put in puts for row in put.rows]),
            tags=[tag for put in puts for tag in put.tags],
            partition_id=puts[0].partition_id,
        )


def _group() -> Group:
    group = current.get()
    assert group is not None, "set in _run_prompt"
    return group
