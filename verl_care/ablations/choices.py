"""The token that the reference would have written at every position, beside its log-probabilities.

verl hands a worker's loss function the logits where the data says `distillation_use_topk`, and keeps what it returns
as outputs of the model. Here the loss function takes their maximum, and there is no loss.
"""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor
from verl.utils import tensordict_utils as tu
from verl.workers.engine_workers import TrainingWorker

WANTED = "reference_chooses"  # in a batch's `extra_info`
CHOICE = "reference_choice"  # (prompt + response,) token ids: at position t the choice for t + 1


class ChoosingWorker(TrainingWorker):
    """The reference's worker. Without `WANTED` in the data it does what verl's does."""

    def infer_batch(self, data: TensorDict) -> TensorDict:
        if tu.get(data, WANTED, default=False):
            self.set_loss_fn(most_likely)
            tu.assign_non_tensor(data, compute_loss=True, distillation_use_topk=True)
        return super().infer_batch(data)


def most_likely(
    student_logits: Tensor | None = None, data: TensorDict | None = None, **_: Any
) -> dict[str, Tensor] | tuple[Tensor, dict[str, Any]]:
    """With logits (1, tokens, vocabulary): the likeliest token after each. Without: verl's call for a loss, zero."""
    if student_logits is None:
        return torch.zeros(()), {}
    return {CHOICE: student_logits.argmax(dim=-1)}
