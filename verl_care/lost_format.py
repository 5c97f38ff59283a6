"""Notices a policy that has lost the format it had.

Such a policy earns next to nothing, most of its groups are rewarded alike, and a training can go on so for hours. A
break of a few steps mends itself.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

logger = logging.getLogger(__name__)

HAD = 0.8  # share of a step's responses in the format
LOST = 0.5
FIRST_WARNING = 20  # steps in a row; the next comes when they are twice as many


@dataclass
class LostFormat:
    last_good: int | None = None
    """The newest step with `HAD` or more. None until there was one: who never had it has lost nothing."""
    in_a_row: int = 0

    def add(self, step: int, share: float) -> None:
        """Warn where 20, 40, 80, ... steps in a row were under `LOST`.

        Args:
            share: of the step's responses, in the format.
        """
        if share >= HAD:
            self.last_good = step
        self.in_a_row = self.in_a_row + 1 if share < LOST else 0
        times, rest = divmod(self.in_a_row, FIRST_WARNING)
        if self.last_good is None or rest or not times or times & (times - 1):
            return
        logger.warning(
            "step %d: the policy has lost the format. In %d steps in a row under half of the responses had it (%.2f in"
            " this one); step %d was the last with %.1f or more. It may not come back: go on from a checkpoint well"
            " before that step, with a lower actor_rollout_ref.actor.optim.lr or a larger data.train_batch_size",
            step,
            self.in_a_row,
            share,
            self.last_good,
            HAD,
        )
