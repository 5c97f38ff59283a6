"""`reward.num_workers=0`: responses are graded by the process that made them, and no other is asked.

A rule takes a fraction of a millisecond; sending a response to a reward worker and back takes several, on the laptop's
cores that generate as well. Where cores are many, or a rule is slow, keep verl's workers.
"""

from __future__ import annotations

from collections.abc import Awaitable
from functools import cached_property
from typing import Any

from verl import DataProto
from verl.experimental.reward_loop.reward_loop import RewardLoopWorker


class InProcessRewards:
    """In the place of a reward worker's handle: `handle.compute_score.remote(data)` can be awaited.

    A copy in another process makes a worker of its own there, when it is first asked.
    """

    def __init__(self, config: Any):
        self._config = config

    def __reduce__(self) -> tuple[type[InProcessRewards], tuple[Any]]:
        return InProcessRewards, (self._config,)

    @cached_property
    def _worker(self) -> RewardLoopWorker:
        return RewardLoopWorker(self._config)

    @property
    def compute_score(self) -> InProcessRewards:
        return self

    def remote(self, data: DataProto) -> Awaitable[dict[str, Any]]:
        return self._worker.compute_score(data)
