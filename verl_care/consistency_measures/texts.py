"""Reasoning, answer and options as the measures read them. Pure.

All of it may be hostile text: nothing is searched by a pattern that backtracks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from verl_care.algorithm.spans import answer_block
from verl_care.data.prompts import LETTERS, without_letter, without_letters

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


def bare(options: Sequence[str]) -> tuple[str, ...]:
    """Options without the letters that some data sets write before them ("A. text", "(A) text", "A text")."""
    texts = without_letters(options)
    return tuple(options[: len(LETTERS)]) if texts is None else texts


def option_of(answer: str, options: Sequence[str]) -> int | None:
    """Which option an answer names: by its letter ("B", "b.", "(B)"), its text, or both if they agree; or None."""
    if len(answer) > _LONGEST_ANSWER:
        return None
    texts = [words(option) for option in bare(options)]
    signs = answer.strip(" \t\n.:()[]{}*\"'")
    if len(signs) == 1 and signs.upper() in tuple(LETTERS[: len(texts)]):  # "ST" is the upper case of a ligature
        return LETTERS.index(signs.upper())
    for index, text in enumerate(texts):
        rest = without_letter(answer, LETTERS[index])
        if rest is not None and words(rest) == text:
            return index
    same = [index for index, text in enumerate(texts) if text and text == words(answer)]
    return same[0] if len(same) == 1 else None
