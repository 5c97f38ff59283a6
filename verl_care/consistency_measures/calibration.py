"""From an answer's likelihood to the probability that it follows from its reasoning, and how good that is. Pure.

Calibration is isotonic regression (Zadrozny & Elkan 2002; pool adjacent violators, from SciPy): the monotone function
of the likelihood with the least squared error on labelled responses. It keeps their order but for ties, so a measure's
AUC hardly changes; what changes is that 0.8 means that 8 of 10 such responses were called consistent.

Shapes: `_N` labelled responses, `_K` knots. Responses without a likelihood or a label are to be left out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Calibration:
    """A monotone function, linear between its knots and constant outside."""

    likelihood_K: tuple[float, ...]
    probability_K: tuple[float, ...]
    source: str
    """Whose labels, on what: named wherever the calibrated value is shown."""
    labelled: int
    """On how many responses."""

    def __post_init__(self) -> None:
        x_K, y_K = np.array(self.likelihood_K), np.array(self.probability_K)
        ordered = x_K.size > 0 and x_K.shape == y_K.shape and (np.diff(x_K) > 0).all() and (np.diff(y_K) >= 0).all()
        if not (ordered and y_K[0] >= 0 and y_K[-1] <= 1):
            raise ValueError(
                "a calibration needs rising likelihoods and, for each, a probability in [0, 1] that never falls:"
                " make it with `python -m verl_care.evaluation calibrate`"
            )

    def __call__(self, likelihood_N: ArrayLike) -> NDArray[np.float64]:
        """Probabilities; NaN stays NaN."""
        return np.interp(np.asarray(likelihood_N, np.float64), self.likelihood_K, self.probability_K)

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Raises:
        ValueError: the file is there and is no calibration.
        """
        try:
            fields = json.loads(path.read_text())
            knots = (tuple(float(value) for value in fields[name]) for name in ("likelihood_K", "probability_K"))
            return cls(*knots, source=str(fields["source"]), labelled=int(fields["labelled"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is no calibration ({error})") from error


class Bin(NamedTuple):
    """Of a reliability curve: responses whose predicted probability lies in [low, high)."""

    low: float
    high: float
    count: int
    predicted: float  # mean probability
    observed: float  # share that is consistent


def fit(likelihood_N: ArrayLike, consistent_N: ArrayLike, source: str) -> Calibration:
    """Isotonic regression of `consistent` (0 or 1) on the likelihood; equal likelihoods get one value.

    Raises:
        ValueError: no response, shapes that differ, or NaN.
    """
    from scipy.optimize import isotonic_regression

    x_N, y_N = _checked(likelihood_N, consistent_N)
    if not x_N.size:
        raise ValueError("no response has both a likelihood and a label: there is nothing to calibrate on")
    x_U, place_N, count_U = np.unique(x_N, return_inverse=True, return_counts=True)
    mean_U = np.bincount(place_N, weights=y_N) / count_U
    fitted = isotonic_regression(mean_U, weights=count_U)
    edges = sorted(
        {edge for start, stop in zip(fitted.blocks, fitted.blocks[1:], strict=False) for edge in (start, stop - 1)}
    )
    probability_K = np.clip(fitted.x[edges], 0, 1)
    return Calibration(tuple(x_U[edges].tolist()), tuple(probability_K.tolist()), source, int(x_N.size))


def cross_fitted(
    likelihood_N: ArrayLike, consistent_N: ArrayLike, folds: int = 5, seed: int = 0
) -> NDArray[np.float64]:
    """Each response's probability by the calibration of the other folds, so that no label judges itself."""
    x_N, y_N = _checked(likelihood_N, consistent_N)
    fold_N = np.random.default_rng(seed).permutation(x_N.size) % folds
    probability_N = np.full(x_N.size, np.nan)
    for fold in range(min(folds, x_N.size)):
        others = fold_N != fold
        if others.any():
            probability_N[~others] = fit(x_N[others], y_N[others], "other folds")(x_N[~others])
    return probability_N


def auc(score_N: ArrayLike, consistent_N: ArrayLike) -> float:
    """Probability that a consistent response has a higher score than an inconsistent one; ties count half.

    NaN where one of the two kinds is missing. (Mann-Whitney: U / (n_1 n_0).)
    """
    from scipy.stats import rankdata

    score_N, y_N = _checked(score_N, consistent_N)
    positive_N = y_N > 0.5
    n_1, n_0 = int(positive_N.sum()), int((~positive_N).sum())
    if not n_1 or not n_0:
        return float("nan")
    return float((rankdata(score_N)[positive_N].sum() - n_1 * (n_1 + 1) / 2) / (n_1 * n_0))


def reliability(probability_N: ArrayLike, consistent_N: ArrayLike, bins: int = 10) -> list[Bin]:
    """The reliability curve over equal bins of [0, 1]; empty ones are left out."""
    p_N, y_N = _checked(probability_N, consistent_N)
    place_N = np.minimum((p_N * bins).astype(int), bins - 1)
    found: list[Bin] = []
    for place in np.unique(place_N).tolist():
        inside = place_N == place
        means = float(p_N[inside].mean()), float(y_N[inside].mean())
        found.append(Bin(place / bins, (place + 1) / bins, int(inside.sum()), *means))
    return found


def expected_calibration_error(curve: Sequence[Bin]) -> float:
    """Mean over responses of |predicted - observed| of their bin (Naeini et al. 2015); NaN of no response."""
    total = sum(part.count for part in curve)
    if not total:
        return float("nan")
    return sum(part.count * abs(part.predicted - part.observed) for part in curve) / total


def _checked(score_N: ArrayLike, consistent_N: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x_N, y_N = np.asarray(score_N, np.float64), np.asarray(consistent_N, np.float64)
    if x_N.ndim != 1 or x_N.shape != y_N.shape:
        raise ValueError(f"shapes {x_N.shape} and {y_N.shape}: pass one number and one label per response")
    if np.isnan(x_N).any() or not np.isin(y_N, (0, 1)).all():
        raise ValueError("a score is NaN, or a label neither 0 nor 1: leave out responses that lack one of them")
    return x_N, y_N
