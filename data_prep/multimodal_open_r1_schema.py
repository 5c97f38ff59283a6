"""What a row of multimodal-open-r1-8k-verified must look like; anything else is a `BadRow` with the field and reason.

Multiple choice or open mathematics is told from the row itself, and a row that is not surely one of them is rejected:

multiple choice  the problem lists options: A, B, ... in order, from A on, at least two, each letter once, all written
                 alike (`A.`, `A)`, `A:` or `(A)`), and the answer is one of the letters, in any of these spellings and
                 with or without the option's text behind it, or the whole text of exactly one option.
open mathematics the problem lists no options, and the answer is mathematics (`math_answer.is_mathematics`), but not a
                 capital letter alone, which would be the letter of an option that is not there.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image

from data_prep.common.fields import BadRow, shown, text_of, value_of
from verl_care.data.budget import fitted_size
from verl_care.data.prompts import LETTERS
from verl_care.rewards.grading import extract_answer, has_format
from verl_care.rewards.math_answer import is_mathematics

FIELDS = ("image", "problem", "solution", "original_question", "original_answer")
MULTIPLE_CHOICE, MATH = "multiple choice", "math"
OPTION_STYLES = ("({})", "{}.", "{})", "{}:")

IMAGE_BYTES = 32 << 20
IMAGE_PIXELS = 64_000_000  # decoded, 192 MB
SUFFIXES = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp", "BMP": ".bmp", "GIF": ".gif"}
PATCH = 14


@dataclass(frozen=True)
class Example:
    """A checked row."""

    id: str
    """Of the content, since rows have no id: equal rows have equal ids."""
    problem: str
    problem_type: str
    options: tuple[str, ...]
    """Without their letters; they stand in the problem. Empty for open mathematics."""
    answer: str
    image: bytes
    image_name: str


def check_row(row: Mapping[str, Any]) -> Example:
    problem, answer = text_of(row, "problem"), answer_of(row)
    options = options_of(problem)
    problem_type, truth = (MULTIPLE_CHOICE, letter_of(answer, options)) if options else (MATH, formula_of(answer))
    image, suffix = image_of(row)
    name = hashlib.sha256(image).hexdigest()[:32]
    return Example(
        id=hashlib.sha256("\x1f".join((name, problem, truth)).encode()).hexdigest()[:16],
        problem=problem,
        problem_type=problem_type,
        options=options,
        answer=truth,
        image=image,
        image_name=name + suffix,
    )


def answer_of(row: Mapping[str, Any]) -> str:
    """The answer of `<think>..</think><answer>..</answer>`, with white space between the two."""
    solution = text_of(row, "solution")
    answer = extract_answer(solution)
    if not has_format(solution) or solution.count("<answer>") != 1 or not answer:
        raise BadRow("solution", f"must be <think>...</think><answer>...</answer>: found {shown(solution)}")
    return answer


def options_of(problem: str) -> tuple[str, ...]:
    """The texts of the options that a problem lists; empty if it lists none.

    Raises:
        BadRow: if there is a list that cannot be trusted: a letter twice, or an option without a text.
    """
    for style in OPTION_STYLES:
        marks = [_places(problem, style.format(letter)) for letter in LETTERS]
        count = next((number for number, places in enumerate(marks) if not places), len(LETTERS))
        if count < 2:
            continue
        listed = marks[:count]
        if any(len(places) > 1 for places in listed):
            raise BadRow("problem", f"lists an option twice: {shown(problem)}")
        starts = [places[0] for places in listed]
        if starts != sorted(starts):
            raise BadRow("problem", f"lists options out of order: {shown(problem)}")
        width = len(style.format("A"))
        texts = tuple(
            problem[start + width : end].strip()
            for start, end in zip(starts, [*starts[1:], _end_of_list(problem, starts[-1])], strict=True)
        )
        if not all(texts) or len(set(texts)) < len(texts):
            raise BadRow("problem", f"lists an option without a text of its own: {shown(list(texts))}")
        return texts
    return ()


def _places(problem: str, mark: str) -> list[int]:
    """Where `mark` stands as a word of its own: behind a blank or at a line's start, and in front of one."""
    places, start = [], problem.find(mark)
    while start >= 0:
        end = start + len(mark)
        if (start == 0 or problem[start - 1].isspace()) and (end == len(problem) or problem[end].isspace()):
            places.append(start)
        start = problem.find(mark, end)
    return places


def _end_of_list(problem: str, last: int) -> int:
    """The last option goes to the end of its line."""
    end = problem.find("\n", last)
    return len(problem) if end < 0 else end


def letter_of(answer: str, options: tuple[str, ...]) -> str:
    """The letter of the one option that an answer names.

    Raises:
        BadRow: if it names none, or its letter and its text are of two options.
    """
    plain = answer.removesuffix(".").strip()
    for letter, option in zip(LETTERS, options, strict=False):
        if plain == letter:
            return letter
        for mark in (style.format(letter) for style in OPTION_STYLES):
            if answer.startswith(mark) and answer[len(mark) :].strip() in ("", option):
                return letter
    if answer in options:
        return LETTERS[options.index(answer)]
    raise BadRow("solution", f"answer is not among the options: {shown(answer)} of {shown(list(options))}")


def formula_of(answer: str) -> str:
    """Raises:
    BadRow: if the answer is no mathematics, or the letter of an option.
    """
    if answer.strip("().: ") in tuple(LETTERS):
        raise BadRow("solution", f"answer is a letter, but the problem lists no options: {shown(answer)}")
    if not is_mathematics(answer):
        raise BadRow("solution", f"answer is neither an option nor mathematics: {shown(answer)}")
    return answer


def image_of(row: Mapping[str, Any]) -> tuple[bytes, str]:
    """The content of an image, decoded once to be sure, and the suffix of its kind.

    Raises:
        BadRow: for what is no image, or none that training could take.
    """
    value = value_of(row, "image")
    content = value.get("bytes") if isinstance(value, Mapping) else None
    if not isinstance(content, bytes) or not content:
        raise BadRow("image", f"must hold the bytes of an image: found {shown(value)}")
    if len(content) > IMAGE_BYTES:
        raise BadRow("image", f"is larger than {IMAGE_BYTES >> 20} MB: {len(content):,} bytes")
    try:
        with Image.open(io.BytesIO(content), formats=tuple(SUFFIXES)) as image:
            if image.width * image.height > IMAGE_PIXELS:  # of the header: nothing has been decoded yet
                raise BadRow("image", f"has more than {IMAGE_PIXELS:,} pixels: {image.width} x {image.height}")
            fitted_size(image.height, image.width, PATCH, IMAGE_PIXELS)
            image.load()
            return content, SUFFIXES[image.format or ""]
    except BadRow:
        raise
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise BadRow("image", f"cannot be decoded: {error}") from error
