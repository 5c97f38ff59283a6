"""Accuracies that the paper publishes, for the curves and tables of runs that answered the same questions.

Source: arXiv 2506.16141, the tables of SEED-Bench-R1 (one run each, no seeds).
"""

from __future__ import annotations

from collections.abc import Iterable

from verl_care.report.payload import Published, Run

LEVELS = ("L1", "L2", "L3")
QUESTIONS = {"L1": 2432, "L2": 923, "L3": 1321}
ACCURACY = {  # on the levels, in that order
    "Qwen2.5-VL-7B": (0.384, 0.401, 0.313),
    "SFT": (0.462, 0.463, 0.427),
    "GRPO": (0.523, 0.532, 0.467),
    "noKL": (0.554, 0.544, 0.513),
    "CARE": (0.570, 0.570, 0.534),
}


def lines_for(runs: Iterable[Run]) -> list[Published]:
    """The numbers for those data sets of which some run answered as many questions as the benchmark has.

    Part of a benchmark, or a miniature in its layout, is not what the numbers were measured on.
    """
    whole = {(entry["dataset"], entry["questions"]) for run in runs for entry in run["validation"]}
    return [
        {
            "metric": "accuracy",
            "dataset": f"seed_bench_r1/{level}",
            "method": method,
            "value": values[LEVELS.index(level)],
        }
        for level in LEVELS
        if (f"seed_bench_r1/{level}", QUESTIONS[level]) in whole
        for method, values in ACCURACY.items()
    ]
