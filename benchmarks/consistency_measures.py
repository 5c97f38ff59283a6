"""How often are the measures of consistency right? Precision and recall where the truth is known.

    python -m benchmarks.consistency_measures --run runs/quickstart/training

On the miniature benchmark a rule decides whether a response is consistent (`recipes.quickstart.consistency_rule`): the
conclusion is, word for word, the option of the answered letter. RUN is a training on it, `python -m recipes.quickstart`
for example; each of its validation dumps is a table.

* precision of "inconsistent": how many of the responses called inconsistent are; recall: how many of the inconsistent
  ones are called so. The same for "consistent". A response of which a measure says nothing is called neither.
* likelihood and its calibration decide at 1/2; the calibration of a response is learned on the other four fifths.
* the rule of `contradiction` reads this grammar as the truth does, so its precision here says little. The hand-written
  reasonings say more: one set was written together with the rule, the other after it, and nothing was changed for that.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recipes.quickstart.consistency_rule import supports
from recipes.quickstart.report import LEVELS, options_of, read_jsonl
from verl_care.consistency_measures.calibration import auc, cross_fitted, expected_calibration_error, reliability
from verl_care.consistency_measures.contradiction import concluded_option, contradiction
from verl_care.consistency_measures.summary import PREFIX
from verl_care.data.prompts import LETTERS

WRITTEN = Path(__file__).parent / "reasonings"
COLUMNS = ("known", "precision", "recall", "precision", "recall", "AUC", "calibration error")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="folder of the training, with validation/<step>.jsonl")
    arguments = parser.parse_args()
    if arguments.run:
        dumps = sorted((arguments.run / "validation").glob("*.jsonl"), key=lambda path: int(path.stem))
        if not dumps:
            parser.error(f"{arguments.run} has no validation/<step>.jsonl: name the training's folder")
        for dump in dumps:
            show_dump(dump)
    for path in sorted(WRITTEN.glob("*.jsonl"), reverse=True):
        show_written(path)


def show_dump(dump: Path) -> None:
    rows = [row for row in read_jsonl(dump) if row["data_source"].endswith(LEVELS)]
    judged = [(row, supports(row["output"], options_of(row))) for row in rows]
    judged = [(row, truth) for row, truth in judged if truth is not None]
    truth_N = np.array([truth for _, truth in judged], dtype=bool)
    print(
        f"\nstep {dump.stem}: {len(judged)} responses, {int((~truth_N).sum())} inconsistent;"
        f" {len(rows) - len(judged)} outside the grammar left out"
    )
    print(f"{'':24}{'':>8}{'inconsistent':>20}{'consistent':>20}")
    print(f"{'':24}{''.join(f'{name:>{_width(name)}}' for name in COLUMNS)}")
    ruled = [contradiction(row["output"], options_of(row)) for row, _ in judged]
    print_row("contradiction", column(ruled), truth_N)
    for name in ("agreement", "likelihood"):
        if any(row.get(PREFIX + name) is not None for row, _ in judged):
            value_N = column([row.get(PREFIX + name) for row, _ in judged])
            print_row(name, value_N, truth_N)
            if name == "likelihood":
                known_N = ~np.isnan(value_N)
                calibrated_N = value_N.copy()
                calibrated_N[known_N] = cross_fitted(value_N[known_N], truth_N[known_N])
                print_row("likelihood, calibrated", calibrated_N, truth_N)


def print_row(name: str, value_N: np.ndarray, truth_N: np.ndarray) -> None:
    known_N = ~np.isnan(value_N)
    said_N, score_N, true_N = value_N[known_N] >= 0.5, value_N[known_N], truth_N[known_N]
    of_kind = []
    for kind in (False, True):
        called, right = said_N == kind, (said_N == kind) & (true_N == kind)
        of_kind += [_share(right.sum(), called.sum()), _share(right.sum(), (truth_N == kind).sum())]
    graded = np.unique(score_N).size > 2  # a likelihood, no verdict
    error = expected_calibration_error(reliability(score_N, true_N)) if graded else None
    cells = [f"{known_N.sum():d}", *of_kind, f"{auc(score_N, true_N):.3f}", "-" if error is None else f"{error:.3f}"]
    print(f"{name:24}" + "".join(f"{cell:>{_width(title)}}" for title, cell in zip(COLUMNS, cells, strict=True)))


def show_written(path: Path) -> None:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    found = [concluded_option(row["reasoning"], row["options"]) for row in rows]
    named = [None if index is None else LETTERS[index] for index in found]
    right = sum(name is not None and name == row["concludes"] for name, row in zip(named, rows, strict=True))
    said, wanted = sum(name is not None for name in named), sum(row["concludes"] is not None for row in rows)
    print(
        f"\n{path.stem}: {len(rows)} reasonings, {wanted} with one conclusion; the rule names {said}:"
        f" precision {_share(right, said)} ({right}/{said}), recall {_share(right, wanted)} ({right}/{wanted})"
    )


def column(values: Sequence[Any]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], dtype=float)


def _share(part: Any, whole: Any) -> str:
    return f"{part / whole:.3f}" if whole else "-"


def _width(name: str) -> int:
    return max(10, len(name) + 2)


if __name__ == "__main__":
    main()
