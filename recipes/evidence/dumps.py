"""The measures of `measure`, from what a run through verl leaves: its validation dumps, rollouts and metrics.

`validation/STEP.jsonl` and `rollouts/STEP.jsonl` are verl's. A likelihood is read where a dump has a column
`consistency_likelihood` or `likelihood`; without one `auc` and `at_cap` are absent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.miniature_world import LETTERS, LEVELS
from recipes.evidence.measure import Response, measure

OPTION = re.compile(r"^[A-Z]\. (.+)$", re.MULTILINE)
WORDS = re.compile(r"\S+")
LIKELIHOODS = ("consistency_likelihood", "likelihood")
FROM_METRICS = {
    "bonus_rate": "care/bonus_rate",
    "length": "response_length/mean",
    "likelihood": "care/likelihood_mean",
    "grad_norm": "actor/grad_norm",
    "entropy": "actor/entropy",
}


def response_of(row: Mapping[str, Any]) -> Response:
    """`length` counts words: the dumps hold text alone."""
    options, text = OPTION.findall(row["input"]), row["output"]
    if row["gts"] not in LETTERS[: len(options)]:
        raise ValueError(f"the truth is {row['gts']!r}, and the prompt has {len(options)} options: no miniature dump")
    return Response.of(text, options, LETTERS.index(row["gts"]), len(WORDS.findall(text)))


def likelihood_of(row: Mapping[str, Any]) -> float:
    found = next((row[name] for name in LIKELIHOODS if row.get(name) is not None), None)
    return float("nan") if found is None else float(found)


def measure_rows(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    likelihoods = [likelihood_of(row) for row in rows]
    known = any(value == value for value in likelihoods)
    return measure([response_of(row) for row in rows], likelihoods if known else None)


def measure_validation(dump: Path) -> dict[str, dict[str, float]]:
    """Level -> measures."""
    rows = read_lines(dump)
    return {level: measure_rows([row for row in rows if row["data_source"].endswith(level)]) for level in LEVELS}


def measure_training(folder: Path) -> list[dict[str, float]]:
    """One row a step: what its rollouts measure, and what verl logged; a resumed run's later numbers count."""
    logged = logged_steps(folder.glob("metrics*.jsonl"))
    steps = []
    for dump in sorted((folder / "rollouts").glob("*.jsonl"), key=lambda path: int(path.stem)):
        found = logged.get(int(dump.stem), {})
        extra = {name: found[key] for name, key in FROM_METRICS.items() if key in found}
        steps.append({"step": float(dump.stem)} | measure_rows(read_lines(dump)) | extra)
    return steps


def logged_steps(files: Iterable[Path]) -> dict[int, dict[str, float]]:
    ordered = sorted(files, key=lambda path: path.stat().st_mtime)
    return {line["step"]: line["data"] for path in ordered for line in read_lines(path)}


def read_lines(path: Path) -> list[dict[str, Any]]:
    """A last line that a kill cut off is left out."""
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]
