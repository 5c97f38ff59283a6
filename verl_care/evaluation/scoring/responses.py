"""All responses of a run as columns, so that a score is a sum over a mask.

Shapes: `_N` responses, in the order of their keys; `_Q` questions.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from verl_care.evaluation.rows import Key, Measured, Row
from verl_care.evaluation.scoring.rules import BATCH, PARSERS, Rules, has_answer_block, read_response
from verl_care.evaluation.scoring.vsi_bench import official_score
from verl_care.rewards.grading import GRADERS, has_format

_TYPE_SUFFIXES = frozenset(name.replace(" ", "_") for name in GRADERS)


@dataclass(frozen=True)
class Responses:
    """What is known of each response; a score that no rule gives is NaN, an unknown of a measure too."""

    rows: Sequence[Row]
    question_N: np.ndarray  # number of the question, 0 .. Q-1
    scores: Mapping[str, np.ndarray]  # parser -> score_N
    answers: Mapping[str, Sequence[Hashable | None]]  # parser -> what each answers
    official_N: np.ndarray  # VSI-Bench's own score, NaN elsewhere
    missing_N: np.ndarray
    cut_N: np.ndarray
    no_block_N: np.ndarray  # answered, without a closed answer block that holds anything
    format_N: np.ndarray
    measures: Mapping[str, np.ndarray]  # name -> value_N
    measured: Mapping[str, np.ndarray]  # name -> was this response looked at
    dropped: int  # rows that `rules.failures` left out

    @property
    def questions(self) -> int:
        return int(self.question_N.max()) + 1 if len(self.question_N) else 0


def benchmark_of(dataset: str) -> str:
    """What one annotation file holds: `vsibench` of `vsibench/regression`, `seed_bench_r1/L1` of itself."""
    name, _, last = dataset.rpartition("/")
    return name if name and last in _TYPE_SUFFIXES else dataset


def collect(rows: Iterable[Row], measures: Mapping[str, Mapping[Key, Measured]], rules: Rules) -> Responses:
    """Score every row; the order of `rows` matters only to `failures="drop_batches"`, whose batches it gives."""
    given = list(rows)
    kept = sorted(_without_failures(given, rules), key=lambda row: row.key)
    names: dict[tuple[str, str], int] = {}
    question = [names.setdefault((row.dataset, row.id), len(names)) for row in kept]
    readings = [read_response(row, rules) for row in kept]
    found = {name: [by_key.get(row.key) for row in kept] for name, by_key in measures.items()}
    return Responses(
        rows=kept,
        question_N=np.array(question, dtype=np.intp),
        scores={p: _floats(getattr(r, p).score for r in readings) for p in PARSERS},
        answers={p: [getattr(r, p).answer for r in readings] for p in PARSERS},
        official_N=_floats(official_score(row) for row in kept),
        missing_N=_flags(row.response is None for row in kept),
        cut_N=_flags(row.finish == "length" for row in kept),
        no_block_N=_flags(row.response is not None and not has_answer_block(row) for row in kept),
        format_N=_flags(row.response is not None and has_format(row.response) for row in kept),
        measures={name: _floats(m.value if m else None for m in column) for name, column in found.items()},
        measured={name: _flags(m is not None for m in column) for name, column in found.items()},
        dropped=len(given) - len(kept),
    )


def _without_failures(rows: Sequence[Row], rules: Rules) -> list[Row]:
    """Rows that count. Batches are four rows in a row of one benchmark, by `tags["index"]` where all have it."""
    if rules.failures == "count":
        return list(rows)
    if rules.failures == "drop":
        return [row for row in rows if row.response is not None]
    files: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        files.setdefault((benchmark_of(row.dataset), row.sample), []).append(row)
    kept = []
    for of_file in files.values():
        if all(row.tags.get("index", "").isdecimal() for row in of_file):
            of_file.sort(key=lambda row: int(row.tags["index"]))
        for start in range(0, len(of_file), BATCH):
            batch = of_file[start : start + BATCH]
            if all(row.response is not None for row in batch):
                kept.extend(batch)
    return kept


def _floats(values: Iterable[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _flags(values: Iterable[bool]) -> np.ndarray:
    return np.array(list(values), dtype=bool)
