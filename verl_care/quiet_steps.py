"""Steps in a row that taught nothing: all responses of every group were rewarded alike, so no group had a gradient.

A few are usual where answers are nearly all right. A policy that has lost its format fails everywhere, has no gradient
either, and hardly comes back by itself: a training can go on so for hours.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from verl_care.algorithm.metrics import EQUAL_REWARDS

logger = logging.getLogger(__name__)

FIRST_WARNING = 20  # steps; the next comes when they are twice as many
MOSTLY = 0.5


@dataclass
class QuietSteps:
    in_a_row: int = 0

    def add(self, step: int, metrics: Mapping[str, float]) -> None:
        """Warn where a step's `care/` metrics end a row of 20, 40, 80, ... such steps."""
        self.in_a_row = self.in_a_row + 1 if metrics[EQUAL_REWARDS] == 1 else 0
        doublings, rest = divmod(self.in_a_row, FIRST_WARNING)
        if rest or not doublings or doublings & (doublings - 1):
            return
        accuracy, form = metrics["care/accuracy"], metrics["care/format"]
        logger.warning(
            "step %d: in %d steps in a row all responses of every group had the same reward (accuracy %.2f, format %.2f"
            " in the last one), so nothing was learned from rewards. %s",
            step,
            self.in_a_row,
            accuracy,
            form,
            _advice(step - self.in_a_row, accuracy, form),
        )


def _advice(before: int, accuracy: float, form: float) -> str:
    if min(accuracy, form) > MOSTLY:
        return "The policy answers every question in one way: its data may have become too easy"
    return (
        "If it learned before, it has collapsed, and will hardly come back by itself: go on from a checkpoint up to"
        f" step {before}, with a lower actor_rollout_ref.actor.optim.lr or more prompts a step (data.train_batch_size)"
    )
