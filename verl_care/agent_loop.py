"""verl's single-turn rollout, with the sampling times of a clip's frames handed on to vLLM."""

from __future__ import annotations

import logging
from typing import Any

import wrapt
from verl.experimental.agent_loop.agent_loop import AgentLoopOutput, register
from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop

from verl_care.data import failures
from verl_care.data.decoders import MediaError
from verl_care.data.features import remember_features
from verl_care.data.media import frame_times
from verl_care.packing.group import current

FRAME_TIMES = "frame_times"
"""In a row's `extra_fields`: of each clip when the frames that the model saw are shown, see `frame_times`."""


@register("care")
class CareAgentLoop(SingleTurnAgentLoop):
    """`actor_rollout_ref.rollout.agent.default_agent_loop=care`. One object runs one response.

    vLLM 0.24.0 drops a clip's metadata for Qwen2-VL and Qwen2.5-VL (multimodal/parse.py:663). transformers 5.9.0 then
    takes every clip for one sampled at 24 fps, 1/12 of a second a temporal patch, and six patches (twelve frames) in a
    row fall on one temporal position: the policy that samples cannot tell before from after.
    """

    _video_metadata: list[dict[str, Any]] | None = None

    def __init__(self, *args: Any, processor: Any, **kwargs: Any):
        # The worker's own processor: what it remembers serves every response, and the worker's calls after this one.
        super().__init__(*args, processor=remember_features(processor), **kwargs)

    async def run(self, sampling_params: dict[str, Any], priority: int = 0, **kwargs: Any) -> AgentLoopOutput:
        if not (self.rollout_config.full_determinism or self.rollout_config.router_config_path):
            self.server_manager: Any = SameServer(self.server_manager, kwargs["uid"])
        try:
            output = await super().run(sampling_params, priority=priority, **kwargs)  # pyright: ignore[reportAbstractUsage]
        except MediaError as error:
            await failures.report(kwargs["uid"], error)  # before verl marks the prompt as failed, and the trainer looks
            raise
        output.extra_fields[FRAME_TIMES] = [frame_times(metadata) for metadata in self._video_metadata or ()]
        return output

    async def process_multi_modal_info(self, messages: list[dict]) -> dict:
        multi_modal_data = await super().process_multi_modal_info(messages)
        self._video_metadata = [metadata for _, metadata in multi_modal_data.get("videos", [])] or None
        return multi_modal_data

    async def ct_build_initial_tokens(
        self, *args: Any, mm_inputs_out: dict[str, Any] | None = None, **kwargs: Any
    ) -> list[int]:
        """A prompt's tokens; those of a group are made once."""
        build = super().ct_build_initial_tokens
        if (group := current.get()) is None:
            return await build(*args, mm_inputs_out=mm_inputs_out, **kwargs)  # pyright: ignore[reportArgumentType]

        async def tokens_and_inputs() -> tuple[list[int], dict[str, Any]]:
            made: dict[str, Any] = {}
            return await build(*args, mm_inputs_out=made, **kwargs), made

        tokens, inputs = await group.once("prompt", tokens_and_inputs)
        if mm_inputs_out is not None:
            mm_inputs_out.update(inputs)
        return list(tokens)

    def _get_mm_processor_kwargs(self, audio_data: list[Any] | None = None) -> dict[str, Any]:
        kwargs = super()._get_mm_processor_kwargs(audio_data)
        if self._video_metadata:
            kwargs |= {"video_metadata": self._video_metadata, "do_sample_frames": False}
        return kwargs

    @staticmethod
    def build_sglang_video_payload(videos: Any, mm_inputs: dict[str, Any]) -> None:
        """Nothing. SGLang alone reads it, and verl 0.9.1 would store its pixels in the row of every response."""


class SameServer(wrapt.ObjectProxy):
    """verl's client, for which the responses to a prompt are one session: its router keeps a session on one server.

    verl 0.9.1 makes each response a session of its own, and its router (router.py:183) takes the least loaded of the
    servers for it: several then read the prompt, process and encode its clip, each for a share of the group. A prompt
    still goes to the least loaded. A router of the user's own may count by session, and is left alone.
    """

    def __init__(self, client: Any, prompt: str):
        super().__init__(client)
        self._self_prompt = prompt

    async def generate(self, request_id: str, **request: Any) -> Any:
        return await self.__wrapped__.generate(request_id=self._self_prompt, **request)


def _not_told_elsewhere(record: logging.LogRecord) -> bool:
    """False for what the trainer names once for a prompt; verl has a traceback for each of its responses."""
    return not (record.exc_info and isinstance(record.exc_info[1], MediaError))


logging.getLogger("verl.trainer.ppo.v1.agent_loop_tq").addFilter(_not_told_elsewhere)

import verl_care.evaluation.generate.agent_loop  # noqa: E402, F401 - registered with this, see plugin.py
