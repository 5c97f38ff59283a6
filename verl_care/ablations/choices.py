"""The token that the reference would have written at every position, beside its log-probabilities.

verl hands a worker's loss function the logits where the data says `distillation_use_topk`, and keeps what it returns
as outputs of the model. Here the loss function picks a token from them, and there is no loss.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor
from verl.utils import tensordict_utils as tu
from verl.workers.engine_workers import TrainingWorker

WANTED = "reference_chooses"  # in a batch's `extra_info`: a name in `PICKS`, or nothing
CHOICE = "reference_choice"  # (prompt + response,) token ids: at position t the choice for t + 1
ROWS_AT_ONCE = 512  # held together as logits and as probabilities: of 152,000 words in float32, 0.6 GB


class ChoosingWorker(TrainingWorker):
    """The reference's worker. Without `WANTED` in the data it does what verl's does."""

    def infer_batch(self, data: TensorDict) -> TensorDict:
        if wanted := tu.get(data, WANTED, default=None):
            self.set_loss_fn(partial(choices, pick=PICKS[wanted]))
            tu.assign_non_tensor(data, compute_loss=True, distillation_use_topk=True)
        return super().infer_batch(data)


def choices(
    student_logits: Tensor | None = None,
    data: TensorDict | None = None,
    *,
    pick: Callable[[Tensor], Tensor],
    **_: Any,
) -> dict[str, Tensor] | tuple[Tensor, dict[str, Any]]:
    """With logits (1, tokens, vocabulary): the token picked after each. Without: verl's call for a loss, zero."""
    if student_logits is None:
        return torch.zeros(()), {}
    return {CHOICE: pick(student_logits)}


def likeliest(logits_1TV: Tensor) -> Tensor:
    return logits_1TV.argmax(dim=-1)


def sampled(logits_1TV: Tensor) -> Tensor:
    """A draw from the softmax of every position, independent of the others, from the device's own generator."""
    parts = logits_1TV.flatten(0, 1).split(ROWS_AT_ONCE)
    drawn = [torch.multinomial(part.float().softmax(dim=-1), num_samples=1) for part in parts]
    return torch.cat(drawn).view(logits_1TV.shape[:-1])


PICKS = {"sampled": sampled, "greedy": likeliest}
