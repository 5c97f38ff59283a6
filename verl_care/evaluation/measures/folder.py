"""The measures of an evaluation's folder: what is still to be measured, and under which names it is written down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from verl_care.evaluation.rows import MEASURES, Measured, Row, read_measures, read_rows
from verl_care.records import jsonl

NO_RESPONSE = "no response"
MEDIA = "media: "
"""Why a value is unknown, or how that begins, where it may be known later: the question is asked again
(`evaluation.retry_failed`), the clip is there again. A key's last line counts."""


def to_measure(run: Path, name: str, **settings: Any) -> list[Row]:
    """The answers that measure NAME has nothing final on; an end that a kill left half is cut off first.

    Args:
        settings: of what `append_measures` writes into every line, that which NAME does not say.

    Raises:
        ValueError: the file holds values that were made with others.
    """
    path = run / MEASURES / f"{name}.jsonl"
    jsonl.mend(path)
    for line in jsonl.read(path) if path.exists() else ():
        there = {key: line.get(key) for key in settings}
        if there != settings:
            raise ValueError(
                f"{path} was made with {_listed(there)}, and this call says {_listed(settings)}: give what it was made"
                " with, or move the file away"
            )
    done = read_measures(run).get(name, {})
    return [row for row in read_rows(run) if not _is_final(done.get(row.key), row)]


def _is_final(found: Measured | None, row: Row) -> bool:
    if found is None:
        return False
    may_change = found.value is None and (found.why or "").startswith((NO_RESPONSE, MEDIA))
    return row.response is None or not may_change


def _listed(settings: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in settings.items())
