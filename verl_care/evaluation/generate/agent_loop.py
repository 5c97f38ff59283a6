"""Where a response is seen first, and where its row is written: before verl grades it, and while others still run."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import ray.exceptions
from verl.experimental.agent_loop.agent_loop import AgentLoopMetrics, AgentLoopOutput, register
from verl.workers.rollout.utils import get_vision_placeholder_token_ids

from verl_care.agent_loop import CareAgentLoop
from verl_care.data.decoders import MediaError
from verl_care.evaluation.generate.dataset import SAMPLES
from verl_care.evaluation.generate.questions import Question
from verl_care.evaluation.generate.run_folder import answers_to
from verl_care.evaluation.rows import Row
from verl_care.records.finish import finish_of

REASON = 300  # characters of a failure that are kept


@register("care_evaluate")
class EvaluationAgentLoop(CareAgentLoop):
    """`actor_rollout_ref.rollout.agent.default_agent_loop=care_evaluate`.

    Each response has a seed of its own, from `actor_rollout_ref.rollout.seed`, its question and its number: a sample
    does not depend on what ran beside it, or on how often the evaluation was interrupted, and no two are the same draw.
    """

    tokenizer: Any  # verl declares the factory's class
    processor: Any

    async def run(self, sampling_params: dict[str, Any], priority: int = 0, **kwargs: Any) -> AgentLoopOutput:
        question, session = Question.of(kwargs), int(kwargs["session_id"])
        sample = int(kwargs["extra_info"][SAMPLES][session])
        seed = seed_of(self.rollout_config.seed, question, sample)
        answers = answers_to(str(self.config.evaluation.run))
        try:
            output = await super().run(sampling_params | {"seed": seed}, priority=priority, **kwargs)  # pyright: ignore[reportAbstractUsage]
            row = self._row(question, sample, output.response_ids, len(output.prompt_ids), answers.key)
            output = self._without_media(output)
        except Exception as error:  # whatever it is, it costs this one response, unless it is none of the response's
            if is_of_the_server(error):
                raise
            row = question.failed(sample, reason_of(error), answers.key)
            output = self._nothing()
        await asyncio.get_running_loop().run_in_executor(None, answers.add, row)
        return output

    def _row(self, question: Question, sample: int, ids: list[int], prompt_length: int, key: str) -> Row:
        if not ids:
            raise RuntimeError("the server answered with no token")
        text = self.tokenizer.decode(ids, skip_special_tokens=True)
        finish = finish_of(ids, prompt_length, self.rollout_config, self.tokenizer)
        return question.answered(sample, text, finish, len(ids), key)

    def _without_media(self, output: AgentLoopOutput) -> AgentLoopOutput:
        """What verl is told of an answer. It would keep the pixels until the batch is done, and nobody reads them."""
        marks = set(get_vision_placeholder_token_ids(self.processor))
        prompt_ids = [token for token in output.prompt_ids if token not in marks]
        return output.model_copy(update={"prompt_ids": prompt_ids, "multi_modal_data": {}, "mm_processor_kwargs": None})

    def _nothing(self) -> AgentLoopOutput:
        """What verl is told of a response that failed: an empty one, which it counts as wrong. It needs a token."""
        end = self.tokenizer.eos_token_id
        return AgentLoopOutput(
            prompt_ids=[end],
            response_ids=[end],
            response_mask=[1],
            multi_modal_data={},
            num_turns=2,
            metrics=AgentLoopMetrics(),
            extra_fields={"turn_scores": [], "tool_rewards": []},
        )


def seed_of(seed: int, question: Question, sample: int) -> int:
    """63 bits that no other sample of any question is likely to have."""
    digest = hashlib.blake2b(repr((seed, question.dataset, question.id, sample)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def is_of_the_server(error: Exception) -> bool:
    """True if a server is gone: then every response would fail, and none of them is to blame."""
    if isinstance(error, ray.exceptions.RayTaskError):
        return type(error.cause).__name__ == "EngineDeadError"  # vLLM's, of an engine that answers nobody any more
    return isinstance(error, ray.exceptions.RayError)


def reason_of(error: Exception) -> str:
    """`media: ...` or `generation: ...`, on one line; what a file or a server said may be any text."""
    if isinstance(error, MediaError):
        kind, said = "media", str(error)
    else:
        cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
        kind, said = "generation", f"{type(cause).__name__}: {cause}"
    line = " ".join(said.split())
    return f"{kind}: {line[:REASON]}{'...' if len(line) > REASON else ''}"
