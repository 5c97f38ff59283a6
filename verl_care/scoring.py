"""What the reference has to score: which responses, which of their tokens. Between TransferQueue and the algorithm."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
import transfer_queue as tq
from tensordict import TensorDict
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from verl_care.algorithm.consistency import ConsistencyBonus, answer_likelihood, needs_likelihood
from verl_care.algorithm.spans import span_mask
from verl_care.packing.batching import order_by_groups
from verl_care.packing.engine import WANTED
from verl_care.packing.rows import column
from verl_care.records.row_keys import order_of, prompt_of
from verl_care.rewards.manager import NO_SPAN

ANSWER_MASK = "answer_mask"
"""The field that says, a bool per response token, where the answer is."""


@dataclass(frozen=True)
class Graded:
    """What the reward manager said of a batch's responses; rows that verl added as padding are left out."""

    keys: list[str]
    uid_N: list[str]
    accuracy_N: Tensor
    format_N: Tensor
    spans: list[tuple[int, int] | None]
    """Where the answer is, in response tokens; None where there is none."""
    cached_tokens_N: list[int | None]
    """Of each prompt how many tokens vLLM had in its prefix cache."""
    extras: list[dict[str, Any]]
    """All that the rollout and the reward manager said of each response, verl's `extra_fields`."""

    @classmethod
    def of(cls, batch: tq.KVBatchMeta) -> Graded:
        """Raises:
        ValueError: an agent loop has returned several outputs for a response.
        """
        keys = [key for key, tag in zip(batch.keys, batch.tags, strict=True) if not tag.get("is_padding", False)]
        if several := [key for key in keys if order_of(key)[2] > 0]:
            raise ValueError(
                f"row {several[0]}: the agent loop returned several outputs for one response. verl 0.9.1 gives each the"
                " answer span of the last, whose tokens are others. Set"
                " actor_rollout_ref.rollout.agent.default_agent_loop to a loop that returns one, such as care"
            )
        data = tq.kv_batch_get(keys=keys, partition_id=str(batch.partition_id), select_fields=["uid", "extra_fields"])
        extras = column(data, "extra_fields")
        infos = [extra["reward_extra_info"] for extra in extras]
        spans = [(info["answer_start"], info["answer_stop"]) for info in infos]
        return cls(
            keys=keys,
            uid_N=column(data, "uid"),
            accuracy_N=torch.tensor([info["accuracy"] for info in infos]),
            format_N=torch.tensor([info["format"] for info in infos]),
            spans=[None if span[0] == NO_SPAN else span for span in spans],
            cached_tokens_N=[extra.get("num_cached_tokens") for extra in extras],
            extras=extras,
        )

    @property
    def answered_N(self) -> Tensor:
        return torch.tensor([span is not None for span in self.spans])

    def keys_to_score(self, bonus: Literal["hard", "dense", "none"], accuracy_threshold: float) -> list[str]:
        """The responses whose likelihood the bonus depends on."""
        needed_N = needs_likelihood(
            self.accuracy_N, self.answered_N, self.uid_N, bonus=bonus, accuracy_threshold=accuracy_threshold
        )
        return [key for key, needed in zip(self.keys, needed_N.tolist(), strict=True) if needed]

    def likelihood_N(
        self, scored: Collection[str], partition_id: str, mean: Literal["geometric", "arithmetic"]
    ) -> Tensor:
        """Of each scored response's answer, from the log-probabilities in TransferQueue; NaN for all others."""
        likelihood_N = torch.full_like(self.accuracy_N, torch.nan)
        rows = [row for row, key in enumerate(self.keys) if key in scored]
        if rows:
            keys = [self.keys[row] for row in rows]
            data = tq.kv_batch_get(keys=keys, partition_id=partition_id, select_fields=["ref_log_prob"])
            log_prob_NT = pad_sequence(column(data, "ref_log_prob"), batch_first=True)
            mask_NT = span_mask([self.spans[row] for row in rows], length=log_prob_NT.size(1))
            likelihood_N[rows] = answer_likelihood(log_prob_NT, mask_NT, mean=mean).to(likelihood_N)
        return likelihood_N


class Judged(NamedTuple):
    """A batch's responses, and what they were given beyond accuracy and format."""

    graded: Graded
    likelihood_N: Tensor
    scored: Collection[str]
    """Keys of the responses that the reference has scored."""
    result: ConsistencyBonus


def answers_only(batch: tq.KVBatchMeta, graded: Graded, keys: Sequence[str], ranks: int) -> tq.KVBatchMeta:
    """The rows of `keys`, marked so that the engine computes logits at their answers alone.

    Every rank gets as many rows as the others. Where that does not come out even, rows that need no score fill up,
    first those of prompts that are computed anyway; a rank must compute something, so their first token is wanted.
    """
    tags = dict(zip(batch.keys, batch.tags, strict=True))
    spans = dict(zip(graded.keys, graded.spans, strict=True))
    wanted = set(keys)
    prompts = {prompt_of(key) for key in wanted}
    others = [key for key in batch.keys if key not in wanted]
    others.sort(key=lambda key: (prompt_of(key) not in prompts, tags[key]["seq_len"]))
    rows = [*keys, *others[: -len(keys) % ranks]]

    masks = [span_mask([spans[key] if key in wanted else (0, 1)], length=tags[key]["response_len"])[0] for key in rows]
    fields = TensorDict({ANSWER_MASK: torch.nested.as_nested_tensor(masks, layout=torch.jagged)}, batch_size=len(rows))
    tq.kv_batch_put(keys=rows, partition_id=str(batch.partition_id), fields=fields)
    part = batch.select_keys([key for share in shares_of(batch.select_keys(rows), ranks) for key in share])
    part.extra_info = {**(batch.extra_info or {}), WANTED: ANSWER_MASK}
    if part.fields is not None:  # a batch that comes from TransferQueue asks for the fields of that time
        part.fields = [*part.fields, ANSWER_MASK]
    return part


def add_to_rewards(bonus_N: Tensor, keys: Sequence[str], partition_id: str) -> None:
    """Add each bonus where verl puts a response's reward: on its last token."""
    data = tq.kv_batch_get(keys=list(keys), partition_id=partition_id, select_fields=["rm_scores"])
    rewards = [row.clone() for row in column(data, "rm_scores")]
    for row, bonus in zip(rewards, bonus_N, strict=True):
        row[-1] += bonus
    nested = torch.nested.as_nested_tensor(rewards, layout=torch.jagged)
    fields = TensorDict({"rm_scores": nested}, batch_size=len(rewards))
    tq.kv_batch_put(keys=list(keys), partition_id=partition_id, fields=fields)


def shares_of(batch: tq.KVBatchMeta, ranks: int) -> list[list[str]]:
    """The keys of each rank, groups together."""
    shares = order_by_groups(
        [prompt_of(key) for key in batch.keys],
        [tag["prompt_len"] for tag in batch.tags],
        [tag["response_len"] for tag in batch.tags],
        ranks,
    )
    return [[batch.keys[row] for row in share] for share in shares]
