"""Mean relative accuracy of a number: the share of ten demands that it meets, from within 50 % to within 5 %.

    MRA = 1/10 sum over theta in {.50, .55, ..., .95} of [ |answer - truth| / |truth| < 1 - theta ]

The two published programs disagree where an error lies on a demand, which whole numbers do often: 3 for a truth of 2 is
0 in one and 0.1 in the other. Both count as the original did, to the last bit.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

Arithmetic = Literal["released", "vsibench"]

_THETA_32 = (0.5 + 0.05 * np.arange(10)).astype(np.float32)
_WITHIN_32 = np.float32(1) - _THETA_32
_WITHIN_64 = 1 - np.linspace(0.5, 0.95, 10)


def mean_relative_accuracy(answer: float, truth: float, arithmetic: Arithmetic = "released") -> float:
    """MRA in {0, 0.1, ..., 1} of two finite numbers.

    Args:
        arithmetic: "released" is that of GRPO-CARE (`src/eval_bench.py`): float32, an error strictly below 1 - theta,
            1e-8 added to the truth's magnitude. "vsibench" is VSI-Bench's own (vision-x-nyu/thinking-in-space,
            `lmms_eval/tasks/vsibench/utils.py`): float64, an error of 1 - theta is within.

    Deviation: VSI-Bench's own divides by the truth, so that 0 fails there and a negative truth is always met; here the
    magnitude is taken, and a truth of 0 is met by 0 alone.
    """
    if arithmetic == "released":
        with np.errstate(over="ignore", invalid="ignore"):
            answer_32, truth_32 = np.float32(answer), np.float32(truth)
            error = np.abs(answer_32 - truth_32) / (np.abs(truth_32) + np.float32(1e-8))
            return int(np.count_nonzero(error < _WITHIN_32)) / 10
    if truth == 0:
        return float(answer == 0)
    return int(np.count_nonzero(abs(answer - truth) / abs(truth) <= _WITHIN_64)) / 10
