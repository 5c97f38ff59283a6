"""What a mean over seeds is worth, and a difference of two variants that share seeds. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import t as student


class Estimate(NamedTuple):
    """A mean over seeds; all of it but the count is NaN over none, the error over one."""

    mean: float
    error: float
    """Standard error of the mean: s / sqrt(n), s with n - 1."""
    count: int

    @property
    def half_width(self) -> float:
        """Of the 95 % interval: t(0.975, n - 1) standard errors."""
        return float(student.ppf(0.975, self.count - 1)) * self.error if self.count > 1 else math.nan

    @property
    def low(self) -> float:
        return self.mean - self.half_width

    @property
    def high(self) -> float:
        return self.mean + self.half_width

    @property
    def resolved(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0


MOST_SEEDS = 1000


def seeds_to_resolve(value: Estimate) -> int | None:
    """The fewest seeds whose 95 % interval would exclude zero, if mean and spread stayed what they are.

        smallest n with t(0.975, n - 1) s / sqrt(n) < |mean|

    None of one seed, where there is no spread, and above `MOST_SEEDS`.
    """
    if value.count < 2:
        return None
    spread = value.error * math.sqrt(value.count)
    counts = range(2, MOST_SEEDS + 1)
    return next((n for n in counts if Estimate(value.mean, spread / math.sqrt(n), n).resolved), None)


def estimate(values: Sequence[float]) -> Estimate:
    count = len(values)
    mean = float(np.mean(values)) if count else math.nan
    return Estimate(mean, float(np.std(values, ddof=1)) / math.sqrt(count) if count > 1 else math.nan, count)


def paired(one: Mapping[int, float], other: Mapping[int, float]) -> Estimate:
    """Mean of `one` minus `other`, both by seed, over the seeds that both have."""
    return estimate([one[seed] - other[seed] for seed in sorted(one.keys() & other.keys())])


def ranks(values: Mapping[str, float]) -> dict[str, int]:
    """Name -> place, 1 for the highest; equal values share the better place."""
    return {name: 1 + sum(other > value for other in values.values()) for name, value in values.items()}
