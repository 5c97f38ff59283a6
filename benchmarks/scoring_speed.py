"""How long the scores of an evaluation take, and what drawing counts instead of questions saves.

    python -m benchmarks.scoring_speed [--rows N]

The first lines are the parts of `python -m verl_care.evaluation score` on N rows of six benchmarks. The last one is the
interval of a mean over N questions, by the multinomial counts that we draw and by drawing every question by its index,
as a bootstrap is usually written.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from verl_care.evaluation.rows import Row, append_rows, read_rows
from verl_care.evaluation.scoring.intervals import Bootstrap, mean
from verl_care.evaluation.scoring.responses import collect
from verl_care.evaluation.scoring.rules import Rules
from verl_care.evaluation.scoring.summary import summaries

BENCHMARKS = ("mmvu", "mvbench", "videomme", "videommmu", "vsibench", "tempcompass")
REASONING = (
    "Let me think. The person opens the drawer, takes a knife and cuts the onion. " * 20
)  # about 1,500 characters
Result = TypeVar("Result")


def made_rows(count: int) -> list[Row]:
    """Answers of a model that is right half the time and keeps the format nine times in ten."""
    draw = random.Random(0)
    options = ("A. open drawer", "B. grab knife", "C. wash onion", "D. close door")
    rows = []
    for number in range(count):
        letter = draw.choice("AABCD")
        answer = letter if draw.random() < 0.9 else f"The answer is {letter}."
        rows.append(
            Row(
                dataset=f"{BENCHMARKS[number % 6]}/multiple_choice",
                id=str(number),
                sample=0,
                problem_type="multiple choice",
                ground_truth="A",
                question="What next?",
                options=options,
                response=f"<think>{REASONING}</think>\n<answer>{answer}</answer>",
                finish="stop",
                response_tokens=400,
                tags={"task_type": f"type {number % 60}", "duration": ("short", "medium", "long")[number % 3]},
            )
        )
    return rows


def timed(what: str, function: Callable[[], Result]) -> tuple[Result, float]:
    start = time.perf_counter()
    result = function()
    seconds = time.perf_counter() - start
    print(f"{what:44} {seconds:8.3f} s")
    return result, seconds


def by_index(score_Q: np.ndarray, how: Bootstrap) -> tuple[float, float]:
    random = np.random.default_rng(how.seed)
    means = [score_Q[random.integers(len(score_Q), size=len(score_Q))].mean() for _ in range(how.resamples)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    count, how = parser.parse_args().rows, Bootstrap()

    with tempfile.TemporaryDirectory() as folder:
        append_rows(Path(folder), made_rows(count))
        rows, _ = timed(f"read {count:,} rows", lambda: read_rows(Path(folder)))
    responses, _ = timed("read every answer exactly and leniently", lambda: collect(rows, {}, Rules()))
    groups, _ = timed("intervals of all groups", lambda: summaries(responses, how))
    print(f"{'groups':44} {len(groups):8}")

    score_Q = responses.scores["exact"]
    (ours, ours_s), (usual, usual_s) = (
        timed("one interval, by counts", lambda: mean(score_Q, how)),
        timed("one interval, by index", lambda: by_index(score_Q, how)),
    )
    print(
        f"[{ours.low:.4f}, {ours.high:.4f}] and [{usual[0]:.4f}, {usual[1]:.4f}]: {usual_s / ours_s:.0f} times faster"
    )


if __name__ == "__main__":
    main()
