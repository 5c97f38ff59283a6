"""How sure a mean is, and a difference: bootstrap over questions, and an exact sign test.

All samples of a question stay together, so that k samples of one question do not pass for k questions. Values are
sorted before anything is drawn: the result depends on the questions, not on their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_MANY = 1024  # different values, from which on drawing indices is cheaper than drawing counts
_CHUNK = 4_000_000


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made."""

    resamples: int = 5000
    seed: int = 0
    level: float = 0.95


@dataclass(frozen=True)
class Estimate:
    mean: float
    low: float
    high: float


def ratio_replicates(numerator_Q: np.ndarray, denominator_Q: np.ndarray, how: Bootstrap, stream: int = 0) -> np.ndarray:
    """sum(numerator) / sum(denominator) of resamples of the questions, with replacement; NaN where the sum is 0.

    Questions with equal values are alike, so a resample is a multinomial draw of how often each value comes: the same
    distribution as drawing questions one by one, at the cost of the few values that scores have.

    Args:
        stream: independent draws for another stratum.
    """
    pairs_Q2 = np.stack([numerator_Q, denominator_Q], axis=1)
    values_V2, counts_V = np.unique(pairs_Q2, axis=0, return_counts=True)
    random, questions = np.random.default_rng([how.seed, stream]), len(pairs_Q2)
    if len(values_V2) <= _MANY:
        drawn_RV = random.multinomial(questions, counts_V / questions, size=how.resamples)
        sums_R2 = drawn_RV @ values_V2
    else:
        sorted_Q2 = np.repeat(values_V2, counts_V, axis=0)
        at_once = max(1, _CHUNK // questions)
        sizes = [min(at_once, how.resamples - start) for start in range(0, how.resamples, at_once)]
        sums_R2 = np.concatenate([sorted_Q2[random.integers(questions, size=(n, questions))].sum(1) for n in sizes])
    with np.errstate(invalid="ignore"):
        return sums_R2[:, 0] / np.where(sums_R2[:, 1] == 0, np.nan, sums_R2[:, 1])


def percentile_interval(replicates_R: np.ndarray, how: Bootstrap) -> tuple[float, float]:
    tail = (1 - how.level) / 2
    low, high = np.nanquantile(replicates_R, [tail, 1 - tail])
    return float(low), float(high)


def ratio(numerator_Q: np.ndarray, denominator_Q: np.ndarray, how: Bootstrap) -> Estimate:
    """The ratio of sums over questions, at least one of whose denominators is not 0, and its percentile interval."""
    replicates_R = ratio_replicates(numerator_Q, denominator_Q, how)
    return Estimate(float(numerator_Q.sum() / denominator_Q.sum()), *percentile_interval(replicates_R, how))


def mean(value_Q: np.ndarray, how: Bootstrap) -> Estimate:
    """Of at least one question."""
    return ratio(value_Q, np.ones(len(value_Q)), how)


def mean_of_strata(strata: Sequence[Sequence[np.ndarray]], how: Bootstrap) -> Estimate:
    """Mean of means of means: strata -> parts -> value_Q. Questions are drawn anew within each part."""
    means, replicates, stream = [], [], 0
    for parts in strata:
        means.append(np.mean([part.mean() for part in parts]))
        drawn = []
        for part in parts:
            drawn.append(ratio_replicates(part, np.ones(len(part)), how, stream))
            stream += 1
        replicates.append(np.mean(drawn, axis=0))
    return Estimate(float(np.mean(means)), *percentile_interval(np.mean(replicates, axis=0), how))


def sign_test(wins: int, losses: int) -> float:
    """Two-sided exact p-value that wins and losses are equally likely; McNemar's exact test where scores are 0 or 1.

    p = min(1, 2 * P[X <= min(wins, losses)]), X binomial with wins + losses trials of 1/2. 1 without either.

    Raises:
        ModuleNotFoundError: scipy is not installed.
    """
    if wins + losses == 0:
        return 1.0
    try:
        from scipy.stats import binomtest
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('scipy is not installed: pip install "verl_care[eval]"', name="scipy") from error
    return float(binomtest(wins, wins + losses, 0.5).pvalue)
