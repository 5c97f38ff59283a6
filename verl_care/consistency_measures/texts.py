"""Reasoning, answer and options as the measures read them. Pure.

All of it may be hostile text: nothing is searched by a pattern that backtracks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from verl_care.algorithm.spans import answer_block
from verl_care.data.prompts import LETTERS

WORD = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+(?:['’][^\W\d_]+)*")
ARTICLES = frozenset(("a", "an", "the"))
_TAG = re.compile(r"</?(?:think|answer)>")
_LONGEST_ANSWER = 1000
"""No answer that names an option is longer."""


class Parts(NamedTuple):
    reasoning: str
    answer: str


def split(response: str) -> Parts | None:
    """What stands before the first closed answer block, and in it; None without such a block, or with an empty one."""
    block = answer_block(response)
    if block is None or not response[slice(*block)].strip():
        return None
    return Parts(_TAG.sub("\n", response[: block[0]]).strip(), response[slice(*block)].strip())


def words(text: str) -> tuple[str, ...]:
    """The words of a text that tell it from another: without case, punctuation and articles."""
    found = [word.lower().replace("’", "'") for word in WORD.findall(text)]
    return tuple(word for word in found if word not in ARTICLES) or tuple(found)


def bare(options: Sequence[str]) -> list[str]:
    """Options without the letters that some data sets write before them ("A. text", "(A) text", "A: text")."""
    return [_without_letter(option.strip(), letter) for option, letter in zip(options, LETTERS, strict=False)]


def option_of(answer: str, options: Sequence[str]) -> int | None:
    """Which option an answer names: by its letter ("B", "b.", "(B)"), its text, or both if they agree; or None."""
    if len(answer) > _LONGEST_ANSWER:
        return None
    texts = [words(option) for option in bare(options)]
    signs = answer.strip(" \t\n.:()[]{}*\"'")
    if len(signs) == 1 and signs.upper() in LETTERS[: len(texts)]:
        return LETTERS.index(signs.upper())
    for index in range(len(texts)):
        rest = _without_letter(answer.strip(), LETTERS[index])
        if rest != answer.strip() and words(rest) == texts[index]:
            return index
    same = [index for index, text in enumerate(texts) if text and text == words(answer)]
    return same[0] if len(same) == 1 else None


def _without_letter(text: str, letter: str) -> str:
    if text.startswith(f"({letter})"):
        return text[3:].strip()
    if text[:2] in (f"{letter}.", f"{letter})", f"{letter}:"):
        return text[2:].strip()
    return text
