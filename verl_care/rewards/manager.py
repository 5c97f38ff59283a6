"""Reward of one response, computed by verl's reward loop while other responses are still being generated."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from verl import DataProto
from verl.experimental.reward_loop.reward_manager import register
from verl.experimental.reward_loop.reward_manager.base import RewardManagerBase

from verl_care.algorithm.spans import answer_span
from verl_care.rewards import grading

NO_SPAN = -1


@register("care")
class CareRewardManager(RewardManagerBase):
    """Accuracy + format (weights 1 and 1), and the answer's tokens for the bonus that the trainer adds later.

    `reward_extra_info` carries `acc` (verl's validation prints it as val-core), `accuracy`, `format`,
    `answer_start` and `answer_stop` ([start, stop) in response tokens, -1 where there is no answer), and
    the row's `data_source`, `id` and `problem_type`, so that a dump of responses can be joined with its data.
    """

    def __init__(self, config: Any, tokenizer: Any, compute_score: Any = None, **_: Any):
        super().__init__(config, tokenizer, compute_score)
        self.tokenizer: Any = tokenizer
        self._token_text = lru_cache(maxsize=65536)(self._decode_one)

    def _decode_one(self, token_id: int) -> str:
        # As the whole response is decoded: what is special is no part of the graded text, so none of the span's.
        return self.tokenizer.decode([token_id], skip_special_tokens=True)

    async def run_single(self, data: DataProto) -> dict:
        item = data[-1]
        length = int(item.non_tensor_batch["response_len"])
        response_ids = item.batch["responses"][:length].tolist()
        extra_info = item.non_tensor_batch.get("extra_info") or {}
        return await self.loop.run_in_executor(
            None,
            self.score,
            response_ids,
            item.non_tensor_batch["reward_model"]["ground_truth"],
            extra_info.get("problem_type") or "multiple choice",
            item.non_tensor_batch["data_source"],
            extra_info.get("id"),
        )

    def score(
        self, response_ids: list[int], ground_truth: str, problem_type: str, data_source: str = "", row_id: Any = None
    ) -> dict:
        """Grade one response.

        Args:
            response_ids: the response's tokens, end-of-turn included if there is one.
            ground_truth: the answer, bare or as `<answer>...</answer>`.
            problem_type: one of `grading`'s types.
            data_source, row_id: handed through, to join a dump of responses with its data; no id is an empty text.

        Raises:
            ValueError: for an unknown problem type; never for anything that a model can write.
        """
        response = self.tokenizer.decode(response_ids, skip_special_tokens=True)
        accuracy = grading.grade(problem_type, response, ground_truth)
        has_format = float(grading.has_format(response))
        start, stop = answer_span([self._token_text(token) for token in response_ids]) or (NO_SPAN, NO_SPAN)
        return {
            "reward_score": accuracy + has_format,
            "reward_extra_info": {
                "acc": accuracy,
                "accuracy": accuracy,
                "format": has_format,
                "answer_start": start,
                "answer_stop": stop,
                "problem_type": problem_type,
                "data_source": data_source,
                "id": "" if row_id is None else str(row_id),
            },
        }
