"""What a SEED-Bench-R1 annotation must look like; anything else is a `BadRow` that names the field and the reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from data_prep.common.fields import BadRow, checked_text, id_of, list_of, one_of, optional_text_of, text_of, texts_of
from data_prep.common.media import MediaRoot
from data_prep.common.sampling import rank

OPTION_COUNT = 4
LETTERS = ("A", "B", "C", "D")
CHOICES = tuple(f"choice_{letter.lower()}" for letter in LETTERS)
FIELDS = (
    *("sample_id", "video_source", "video_id", "task_goal", "question", "answer", "current_observation_frame"),
    *("task_progress_metadata", "video_basename", "current_observation_basename"),
    *("negative_answers",),  # training
    *(*CHOICES, "golden_choice_idx"),  # validation
    *("domain", "scenario", "task_start_frame"),  # L3
)
"""All fields of the training and the validation layout."""


@dataclass(frozen=True)
class Example:
    """A checked annotation."""

    id: str
    question: str
    options: tuple[str, ...]
    letter: str
    task_goal: str
    progress: tuple[str, ...]
    video: str | None  # None: no progress yet, so no clip
    image: str
    domain: str | None
    scenario: str | None


def media_path(row: Mapping[str, Any], field: str, media: MediaRoot, folder: str) -> str:
    """ROOT/folder/<video_source>/<basename>."""
    source, name = text_of(row, "video_source"), text_of(row, field)
    for part, blamed in ((source, "video_source"), (name, field)):
        if "/" in part or part in (".", ".."):
            raise BadRow(blamed, f"must be a plain name, or it leaves {folder}/: found {part!a}")
    return media.file(f"{folder}/{source}/{name}", field)


def progress_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The narration of each step done so far; none: there is no clip."""
    field = "task_progress_metadata"
    steps = list_of(row, field)
    if not all(isinstance(step, Mapping) for step in steps):
        raise BadRow(field, "must be a list of objects")
    return tuple(checked_text(step.get("narration_text") or "", field) for step in steps)


def drawn_options(row: Mapping[str, Any], row_id: str, seed: int) -> tuple[tuple[str, ...], str]:
    """(options, letter) of a training row: three of the negatives and the answer, in an order that depends on nothing
    but the seed, the row's id and the texts."""
    answer = text_of(row, "answer")
    wrong = sorted(set(texts_of(row, "negative_answers")) - {answer})
    if len(wrong) < OPTION_COUNT - 1:
        raise BadRow(
            "negative_answers", f"needs {OPTION_COUNT - 1} different texts other than the answer: has {len(wrong)}"
        )
    drawn = sorted(wrong, key=lambda text: rank(seed, row_id, "draw", text))[: OPTION_COUNT - 1]
    options = tuple(sorted([answer, *drawn], key=lambda text: rank(seed, row_id, "order", text)))
    return options, LETTERS[options.index(answer)]


def given_options(row: Mapping[str, Any]) -> tuple[tuple[str, ...], str]:
    """(options, letter) of a validation row, whose order is part of the benchmark."""
    options = tuple(text_of(row, choice) for choice in CHOICES)
    letter = one_of(row, "golden_choice_idx", LETTERS)
    for later, option in enumerate(options):
        if option in options[:later]:
            raise BadRow(CHOICES[later], f"repeats an earlier choice: {option!a}")
    answer = optional_text_of(row, "answer")
    if answer is not None and answer != options[LETTERS.index(letter)]:
        among = "is another choice than golden_choice_idx says" if answer in options else "is not among the choices"
        raise BadRow("answer", f"{among}: {answer!a}; {letter} is {options[LETTERS.index(letter)]!a}")
    return options, letter


def check_row(row: Mapping[str, Any], media: MediaRoot, seed: int, training: bool) -> Example:
    row_id = id_of(row, "sample_id")
    options, letter = drawn_options(row, row_id, seed) if training else given_options(row)
    progress = progress_of(row)
    return Example(
        id=row_id,
        question=text_of(row, "question"),
        options=options,
        letter=letter,
        task_goal=text_of(row, "task_goal"),
        progress=progress,
        video=media_path(row, "video_basename", media, "videos") if progress else None,
        image=media_path(row, "current_observation_basename", media, "images"),
        domain=optional_text_of(row, "domain"),
        scenario=optional_text_of(row, "scenario"),
    )
