"""What a SEED-Bench-R1 annotation must look like; anything else is a `BadRow` that names the field and the reason."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OPTION_COUNT = 4
LETTERS = ("A", "B", "C", "D")
MEDIA_MARKS = ("<video>", "<image>")  # verl splits the prompt at these


class BadRow(ValueError):
    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field, self.reason = field, reason


@dataclass(frozen=True)
class Example:
    """A checked annotation."""

    id: str
    question: str
    options: tuple[str, ...]
    letter: str
    task_goal: str
    progress: tuple[str, ...]
    video: Path | None  # None: no progress yet, so no clip
    image: Path
    domain: str | None
    scenario: str | None


def text_of(row: Mapping[str, Any], field: str) -> str:
    if field not in row:
        raise BadRow(field, "is missing")
    value = row[field]
    if not isinstance(value, str) or not value.strip():
        raise BadRow(field, f"must be a text that is not empty, found {value!r}")
    for mark in MEDIA_MARKS:
        if mark in value:
            raise BadRow(field, f"contains the media mark {mark}")
    return value.strip()


def list_of(row: Mapping[str, Any], field: str) -> list[Any]:
    if field not in row:
        raise BadRow(field, "is missing")
    if not isinstance(row[field], list):
        raise BadRow(field, f"must be a list, found {row[field]!r}")
    return row[field]


def id_of(row: Mapping[str, Any]) -> str:
    value = row.get("sample_id")
    if isinstance(value, bool) or not isinstance(value, int | str) or str(value).strip() == "":
        raise BadRow("sample_id", f"must be a number or a text, found {value!r}")
    return str(value)


def media_path(row: Mapping[str, Any], field: str, root: Path, folder: str) -> Path:
    """ROOT/folder/<video_source>/<basename>. Checked without following links: a linked media folder is fine."""
    source, name = text_of(row, "video_source"), text_of(row, field)
    base = os.path.normpath(root / folder)
    path = os.path.normpath(os.path.join(base, source, name))
    if os.path.dirname(os.path.dirname(path)) != base:
        raise BadRow(field, f"{folder}/{source}/{name} is not a file of a folder of {folder}/")
    if not os.path.isfile(path):
        raise BadRow(field, f"{folder}/{source}/{name} does not exist")
    return Path(path)


def progress_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    steps = list_of(row, "task_progress_metadata")
    if not all(isinstance(step, Mapping) for step in steps):
        raise BadRow("task_progress_metadata", "must be a list of objects")
    return tuple(str(step.get("narration_text") or "") for step in steps)


def _rank(*parts: object) -> bytes:
    """A reproducible random key. Hashes rather than `random`, whose sampling may change between Pythons."""
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()


def drawn_options(row: Mapping[str, Any], row_id: str, seed: int) -> tuple[tuple[str, ...], str]:
    """(options, letter) of a training row: three of the negatives and the answer, in an order that depends on nothing
    but the seed, the row's id and the texts."""
    answer = text_of(row, "answer")
    negatives = list_of(row, "negative_answers")
    if not all(isinstance(n, str) for n in negatives):
        raise BadRow("negative_answers", "must be a list of texts")
    wrong = sorted({n.strip() for n in negatives if n.strip()} - {answer})
    if any(mark in n for n in wrong for mark in MEDIA_MARKS):
        raise BadRow("negative_answers", "contains a media mark")
    if len(wrong) < OPTION_COUNT - 1:
        raise BadRow("negative_answers", f"needs {OPTION_COUNT - 1} texts other than the answer, has {len(wrong)}")
    drawn = sorted(wrong, key=lambda text: _rank(seed, row_id, "draw", text))[: OPTION_COUNT - 1]
    options = tuple(sorted([answer, *drawn], key=lambda text: _rank(seed, row_id, "order", text)))
    return options, LETTERS[options.index(answer)]


def given_options(row: Mapping[str, Any]) -> tuple[tuple[str, ...], str]:
    """(options, letter) of a validation row, whose order is part of the benchmark."""
    options = tuple(text_of(row, f"choice_{letter.lower()}") for letter in LETTERS)
    letter = text_of(row, "golden_choice_idx")
    if letter not in LETTERS:
        raise BadRow("golden_choice_idx", f"must be one of {', '.join(LETTERS)}, found {letter!r}")
    if len(set(options)) < len(options):
        raise BadRow("choice_a", f"two choices are the same: {list(options)}")
    if row.get("answer") is not None and text_of(row, "answer") != options[LETTERS.index(letter)]:
        raise BadRow("answer", f"{row['answer']!r} is not choice {letter}, {options[LETTERS.index(letter)]!r}")
    return options, letter


def check_row(row: object, root: Path, seed: int, training: bool) -> Example:
    if not isinstance(row, Mapping):
        raise BadRow("(row)", f"must be a JSON object, found {type(row).__name__}")
    row_id = id_of(row)
    options, letter = drawn_options(row, row_id, seed) if training else given_options(row)
    progress = progress_of(row)
    return Example(
        id=row_id,
        question=text_of(row, "question"),
        options=options,
        letter=letter,
        task_goal=text_of(row, "task_goal"),
        progress=progress,
        video=media_path(row, "video_basename", root, "videos") if progress else None,
        image=media_path(row, "current_observation_basename", root, "images"),
        domain=text_of(row, "domain") if row.get("domain") is not None else None,
        scenario=text_of(row, "scenario") if row.get("scenario") is not None else None,
    )
