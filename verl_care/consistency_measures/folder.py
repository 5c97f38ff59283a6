"""The measures of an evaluation's folder: what is still to be measured, and under which names it is written down."""

from __future__ import annotations

from pathlib import Path

from verl_care.evaluation.rows import MEASURES, Row, read_measures, read_rows
from verl_care.records import jsonl


def to_measure(run: Path, name: str) -> list[Row]:
    """The answers that measure NAME has not looked at; an end that a kill left half is cut off first."""
    jsonl.mend(run / MEASURES / f"{name}.jsonl")
    done = read_measures(run).get(name, {})
    return [row for row in read_rows(run) if row.key not in done]
