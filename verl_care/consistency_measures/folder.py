"""The measures of an evaluation's folder: what is still to be measured, and under which names it is written down."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from verl_care.evaluation.rows import MEASURES, Key, Measured, Row, append_measures, read_measures, read_rows
from verl_care.records import jsonl

_UNSAFE = re.compile(r"[^A-Za-z0-9.]+")


def slug(model: str) -> str:
    """A model's name or folder, whole, as a part of a file's name: Qwen/Qwen2.5-VL-7B is Qwen-Qwen2.5-VL-7B."""
    return _UNSAFE.sub("-", model).strip("-.") or "model"


def to_measure(run: Path, name: str) -> list[Row]:
    """The answers that measure NAME has not looked at; an end that a kill left half is cut off first."""
    jsonl.mend(run / MEASURES / f"{name}.jsonl")
    done = read_measures(run).get(name, {})
    return [row for row in read_rows(run) if row.key not in done]


def write_likelihoods(run: Path, keys: Sequence[Key], values: Iterable[float | None], reference: str) -> None:
    """Append what a validation measured (`verl_care.validation`) to RUN/measures/likelihood-<slug>.jsonl.

    Args:
        keys: of the answers, as in RUN/responses.jsonl.
        values: None for an answer that has no likelihood.
        reference: the model that scored them.
    """
    measured = [
        Measured(key, value, None if value is not None else "no answer")
        for key, value in zip(keys, values, strict=True)
    ]
    append_measures(run, f"likelihood-{slug(reference)}", measured, reference=reference)
