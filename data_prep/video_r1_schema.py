"""What a row of Video-R1's files must look like; anything else is a `BadRow` that names the field and the reason.

Training rows (Video-R1-260k.json), cold-start rows (Video-R1-COT-165k.json) and evaluation rows (eval_*.json) share one
layout. Evaluation rows may have `options: null`, a folder of frames, and clip bounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from data_prep.common.fields import (
    BadRow,
    id_of,
    list_of,
    one_of,
    optional_number_of,
    optional_text_of,
    shown,
    text_of,
    texts_of,
)
from data_prep.common.media import MediaRoot
from data_prep.common.schema import image_entry, video_entry
from verl_care.algorithm.spans import CLOSE, OPEN
from verl_care.data.prompts import ANSWER_HINTS, LETTERS, without_letter
from verl_care.rewards.grading import grade, has_format

MULTIPLE_CHOICE = "multiple choice"
NUMBERS = ("numerical", "regression")
FRAMES_PER_SECOND = 3.0  # of folders of frames: MVBench has them of TVQA alone, whose frames were taken at 3 a second
START, END = ("start", "video_start"), ("end", "video_end")  # MVBench's names, and qwen-vl-utils'
BOUND_WORDS = frozenset({"start", "begin", "end", "stop", "bound", "bounds", "clip", "segment"})
FIELDS = (
    *("problem_id", "problem", "data_type", "problem_type", "options", "process", "solution", "path", "data_source"),
)
TASK_TYPE = ("task_type", "question_type", "original_question_type")  # Video-MME's name, VSI-Bench's, and of its copies
EVALUATION_FIELDS = (*FIELDS, *START, *END, "fps", *TASK_TYPE, "duration", "domain")
"""Video-R1's own files end at `fps`; the others are the benchmarks' own categories, which copies of them may keep."""


class Kind(Enum):
    """Which of the layouts a file has."""

    TRAINING = "train"
    COLD_START = "cold start"
    EVALUATION = "evaluation"


@dataclass(frozen=True)
class Example:
    """A checked row."""

    id: str
    problem: str
    problem_type: str
    options: tuple[str, ...]  # each with its letter in front; empty for an open question
    answer: str
    source: str | None
    videos: tuple[dict[str, Any], ...]
    images: tuple[dict[str, Any], ...]
    reasoned_answer: str | None  # of the cold start: <think>..</think>, a line break, <answer>..</answer>
    task_type: str | None  # of evaluation rows, where they say
    duration: str | None
    domain: str | None


def answer_of(row: Mapping[str, Any]) -> str:
    """What stands between the tags of `<answer>..</answer>`."""
    solution = text_of(row, "solution")
    if not (solution.startswith(OPEN) and solution.endswith(CLOSE) and solution.count("answer>") == 2):
        raise BadRow("solution", f"must be one {OPEN}...{CLOSE} and nothing else: found {shown(solution)}")
    answer = solution[len(OPEN) : -len(CLOSE)].strip()
    if not answer:
        raise BadRow("solution", "must not be empty between its tags")
    return answer


def options_of(row: Mapping[str, Any], problem_type: str, kind: Kind) -> tuple[str, ...]:
    """The options of a multiple choice, lettered from A on; none of an open question."""
    if problem_type != MULTIPLE_CHOICE:
        given = row.get("options") if kind is Kind.EVALUATION else list_of(row, "options")
        if given:
            raise BadRow("options", f"must be empty where problem_type is {problem_type}: found {shown(given)}")
        return ()
    options = tuple(texts_of(row, "options"))
    if not 2 <= len(options) <= len(LETTERS):
        raise BadRow("options", f"must be 2 to {len(LETTERS)} texts: has {len(options)}")
    for letter, option in zip(LETTERS, options, strict=False):
        if without_letter(option, letter) is None:
            raise BadRow("options", f"must be lettered from A on, as in 'A. text': found {shown(option)} for {letter}")
    return options


def checked_answer(row: Mapping[str, Any], problem_type: str, options: tuple[str, ...]) -> str:
    answer = answer_of(row)
    if options and answer not in tuple(LETTERS[: len(options)]):
        raise BadRow("solution", f"is not among the options' letters A to {LETTERS[len(options) - 1]}: {shown(answer)}")
    if problem_type in NUMBERS and not grade("numerical", OPEN + answer + CLOSE, answer):
        raise BadRow("solution", f"must be a number where problem_type is {problem_type}: found {shown(answer)}")
    return answer


def bounds_of(row: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """(start, end) in seconds of the part of the clip that the question is about; None: its beginning, its end."""
    known = frozenset(EVALUATION_FIELDS)
    for unknown in sorted(row.keys() - known):
        if BOUND_WORDS & set(unknown.lower().split("_")):
            raise BadRow(unknown, f"looks like a clip bound, but bounds are read from {START[0]} and {END[0]} only")
    found = []
    for names in (START, END):
        given = [name for name in names if row.get(name) is not None]
        if len(given) > 1:
            raise BadRow(given[1], f"says again what {given[0]} says")
        found.append(optional_number_of(row, given[0]) if given else None)
    start, end = found
    if start is not None and start < 0:
        raise BadRow("start", f"must not be negative: {start}")
    if end is not None and end <= (start or 0):
        raise BadRow("end", f"must be behind the start: {end}, starts at {start or 0}")
    return start, end


def media_of(row: Mapping[str, Any], kind: Kind, media: MediaRoot) -> tuple[list[dict], list[dict]]:
    """(videos, images) as the parquet holds them: exactly one of either."""
    frames = ("frame",) if kind is Kind.EVALUATION else ()
    data_type = one_of(row, "data_type", ("image", "video", *frames))
    start, end = bounds_of(row) if kind is Kind.EVALUATION else (None, None)
    path = text_of(row, "path")
    if data_type == "image":
        if start is not None or end is not None:
            raise BadRow("start", "an image has no clip bounds")
        return [], [image_entry(media.file(path, "path"))]
    if data_type == "video":
        return [video_entry(media.file(path, "path"), start, end)], []
    rate = optional_number_of(row, "fps")
    if rate is not None and rate <= 0:
        raise BadRow("fps", f"must be above 0: {rate}")
    return [video_entry(media.folder(path, "path"), start, end, rate or FRAMES_PER_SECOND)], []


def reasoned(row: Mapping[str, Any], answer: str) -> str:
    """The response of the cold start, in the format that training asks for."""
    response = f"{text_of(row, 'process')}\n{OPEN}{answer}{CLOSE}"
    if not has_format(response) or response.count(OPEN) > 1:
        raise BadRow("process", f"must be <think>...</think> and nothing else: found {shown(row['process'])}")
    return response


def categories_of(row: Mapping[str, Any], kind: Kind) -> dict[str, str | None]:
    """A benchmark's own categories of a question, by the names that ours have. Seconds are no category of length."""
    found: dict[str, str | None] = {}
    for name, fields in (("task_type", TASK_TYPE), ("duration", ("duration",)), ("domain", ("domain",))):
        given = [field for field in fields if kind is Kind.EVALUATION and isinstance(row.get(field), str)]
        found[name] = optional_text_of(row, given[0]) if given else None
    return found


def check_row(row: Mapping[str, Any], kind: Kind, media: MediaRoot) -> Example:
    row_id = id_of(row, "problem_id")
    problem_type = one_of(row, "problem_type", ANSWER_HINTS)
    options = options_of(row, problem_type, kind)
    answer = checked_answer(row, problem_type, options)
    videos, images = media_of(row, kind, media)
    return Example(
        id=row_id,
        problem=text_of(row, "problem"),
        problem_type=problem_type,
        options=options,
        answer=answer,
        source=text_of(row, "data_source"),
        videos=tuple(videos),
        images=tuple(images),
        reasoned_answer=reasoned(row, answer) if kind is Kind.COLD_START else None,
        **categories_of(row, kind),
    )
