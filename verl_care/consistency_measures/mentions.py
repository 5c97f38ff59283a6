"""The options that a clause of a reasoning names. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from verl_care.consistency_measures import texts, wording
from verl_care.data.prompts import LETTERS


class Mention(NamedTuple):
    option: int
    start: int  # [start, stop) of the clause's tokens
    stop: int


@dataclass(frozen=True)
class Options:
    """What to look for: each option's words, found by their first one."""

    texts: tuple[tuple[str, ...], ...]
    by_first: dict[str, list[int]] = field(default_factory=dict)

    @classmethod
    def of(cls, options: Sequence[str]) -> Options:
        found = tuple(texts.words(option) for option in texts.bare(options))
        by_first: dict[str, list[int]] = {}
        for index, text in enumerate(found):
            if text:
                by_first.setdefault(text[0], []).append(index)
        return cls(found, by_first)

    @property
    def letters(self) -> tuple[str, ...]:
        return tuple(LETTERS[: len(self.texts)])


@dataclass(frozen=True)
class Clause:
    tokens: list[str]
    words: list[str]
    """The same in lower case."""
    ends_with: str
    conditional: bool
    """Its sentence has an "if" in it."""

    @property
    def is_aside(self) -> bool:
        return self.words[0] in wording.ASIDE

    @property
    def takes_back(self) -> bool:
        return any(word in wording.TAKING_BACK for word in self.words[:2])


def find_mentions(clause: Clause, options: Options) -> list[Mention]:
    """Options by letter or by whole text; a text inside a longer option's text is none. Letter and text side by side
    are one."""
    by_text = _texts(clause, options)
    longest = [m for m in by_text if not any(_inside(m, other) for other in by_text)]
    letters = [
        Mention(options.letters.index(token.upper()), place, place + 1)
        for place, token in enumerate(clause.tokens)
        if _is_letter(clause, place, options, longest)
    ]
    merged: list[Mention] = []
    for mention in sorted([*letters, *longest], key=lambda m: m.start):
        if merged and merged[-1].option == mention.option and _only_signs(clause, merged[-1].stop, mention.start):
            merged[-1] = Mention(mention.option, merged[-1].start, mention.stop)
        else:
            merged.append(mention)
    return merged


def _texts(clause: Clause, options: Options) -> list[Mention]:
    places = [
        place
        for place, word in enumerate(clause.words)
        if texts.WORD.fullmatch(word) and word not in texts.ARTICLES
    ]  # fmt: skip
    sequence = [clause.words[place] for place in places]
    return [
        Mention(option, places[i], places[i + len(options.texts[option]) - 1] + 1)
        for i, word in enumerate(sequence)
        for option in options.by_first.get(word, ())
        if tuple(sequence[i : i + len(options.texts[option])]) == options.texts[option]
    ]


def _inside(mention: Mention, other: Mention) -> bool:
    longer = other.stop - other.start > mention.stop - mention.start
    return longer and other.start <= mention.start and mention.stop <= other.stop


def _is_letter(clause: Clause, place: int, options: Options, by_text: Sequence[Mention]) -> bool:
    token = clause.tokens[place]
    if len(token) != 1 or token.upper() not in options.letters:
        return False
    if any(mention.start <= place < mention.stop for mention in by_text):
        return False
    before = clause.words[place - 1] if place else ""
    behind = clause.words[place + 1] if place + 1 < len(clause.words) else clause.ends_with
    if before == "(" and behind == ")":
        return True
    if before in wording.LETTER_NOUNS and (token.isupper() or before in ("option", "choice")):
        return token not in "aA" or not behind.isalnum() or before != "answer"
    if not token.isupper():
        return False
    return token not in wording.EVERYDAY_LETTERS or not behind.isalnum() or behind in wording.ASIDE


def _only_signs(clause: Clause, start: int, stop: int) -> bool:
    return not any(
        w.isalnum() and w not in texts.ARTICLES and w not in ("which", "is") for w in clause.words[start:stop]
    )
