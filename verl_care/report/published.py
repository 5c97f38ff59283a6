"""Accuracies that the paper publishes, for the curves and tables of runs that answered the same questions."""

from __future__ import annotations

from collections.abc import Iterable

from verl_care.evaluation.published import LEVELS, QUESTIONS, SEED_BENCH_R1, figures
from verl_care.report.payload import Published, Run

METHODS = ("Qwen2.5-VL-7B", "SFT", "GRPO", "noKL", "CARE")


def lines_for(runs: Iterable[Run]) -> list[Published]:
    """The numbers for those data sets of which some run answered as many questions as the benchmark has.

    Part of a benchmark, or a miniature in its layout, is not what the numbers were measured on.
    """
    whole = {(entry["dataset"], entry["questions"]) for run in runs for entry in run["validation"]}
    datasets = [f"{SEED_BENCH_R1}/{level}" for level in LEVELS]
    values = {(figure.dataset, figure.method): figure.value for figure in figures() if figure.metric == "accuracy"}
    return [
        {"metric": "accuracy", "dataset": dataset, "method": method, "value": values[dataset, method]}
        for dataset in datasets
        if (dataset, QUESTIONS[dataset]) in whole
        for method in METHODS
    ]
