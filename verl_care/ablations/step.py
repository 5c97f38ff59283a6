"""The ablations' part of a training step: between TransferQueue and the pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import transfer_queue as tq
from tensordict import TensorDict
from torch import Tensor

from verl_care.ablations.choices import CHOICE
from verl_care.ablations.kl_loss import KL_WEIGHT
from verl_care.ablations.kl_weights import kl_weights
from verl_care.ablations.refgen import reference_accuracy
from verl_care.packing.rows import column
from verl_care.settings import CareConfig

Spans = Sequence[tuple[int, int] | None]


def reference_accuracy_N(partition_id: str, keys: Sequence[str], spans: Spans, tokenizer: Any) -> Tensor:
    """RefGen: accuracy of what the reference answers to each response's reasoning; 0 for one without an answer.

    Reads what the reference would have written of the answered responses alone: no other has to be scored.
    """
    accuracy_N = torch.zeros(len(keys))
    rows = [row for row, span in enumerate(spans) if span is not None]
    if not rows:
        return accuracy_N
    data = tq.kv_batch_get(
        keys=[keys[row] for row in rows],
        partition_id=partition_id,
        select_fields=["responses", "reward_model", "extra_fields", CHOICE],
    )
    columns = (column(data, name) for name in ("responses", CHOICE, "reward_model", "extra_fields"))
    for row, response, choice, truth, extra in zip(rows, *columns, strict=True):
        accuracy_N[row] = reference_accuracy(
            response.tolist(),
            choice[-len(response) - 1 : -1].tolist(),  # over prompt and response, at each position for the next
            spans[row],
            ground_truth=truth["ground_truth"],
            problem_type=extra["reward_extra_info"]["problem_type"],
            text_of=lambda ids: tokenizer.decode(ids, skip_special_tokens=True),
        )
    return accuracy_N


def put_kl_weights(
    partition_id: str,
    keys: Sequence[str],
    spans: Spans,
    selected: Sequence[bool],
    padding: Sequence[str],
    care: CareConfig,
) -> None:
    """Write each response's weights for the KL term; `padding` are verl's rows that stand for no response."""
    every = [*keys, *padding]
    data = tq.kv_batch_get(keys=every, partition_id=partition_id, select_fields=["response_mask"])
    lengths = [len(mask) for mask in column(data, "response_mask")]
    weights = kl_weights(lengths[: len(keys)], spans, selected, on=care.kl_on, parts=care.kl_parts)  # type: ignore[arg-type]
    weights += [torch.zeros(length) for length in lengths[len(keys) :]]
    nested = torch.nested.as_nested_tensor(weights, layout=torch.jagged)
    fields = TensorDict({KL_WEIGHT: nested}, batch_size=len(every))
    tq.kv_batch_put(keys=every, partition_id=partition_id, fields=fields)
