"""Clauses of a reasoning, the options that each names, and whether it concludes in one. Pure, linear in the text.

Precision first: a clause concludes only where a cue ("so", "the answer is", "I choose", "... is correct") stands beside
an option with nothing but known words between them, and names no second option. All else is no conclusion.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from verl_care.consistency_measures import texts, wording
from verl_care.consistency_measures.mentions import Clause, Mention, Options, find_mentions

_TOKEN = re.compile(r"\n|" + texts.WORD.pattern + r"|'s\b|[^\w\s]|_")
_STOPS = frozenset(".!?;\n。")
_LONGEST_CLAUSE = 150
"""Tokens; a longer one is cut, so that the time is linear in the text."""
_NEAR = 6
"""Words from an option to a denial of it, at most; before it, half of that."""


class Finding(NamedTuple):
    """What one clause says: which option it concludes in (None: several), and which it denies."""

    concludes: bool
    option: int | None
    denied: frozenset[int]
    named: frozenset[int]


def clauses(text: str, options: Options) -> Iterator[Clause]:
    """The text in pieces that end with a sentence, or where a "so", a "but" or an aside begins."""
    tokens = [token.replace("’", "'") for token in _TOKEN.findall(text)]
    words = [token.lower() for token in tokens]
    start, conditional = 0, False
    for place, word in enumerate([*words, "\n"]):
        stops = word in _STOPS and not _joins(tokens, words, place, options)
        comma = word == "," and start < place and words[start] in wording.ASIDE | wording.CONDITION
        opens = place > start and (word in wording.OPENING or _is_therefore(words, place))
        conditional = conditional or word in wording.CONDITION
        if not (stops or comma or opens or place - start >= _LONGEST_CLAUSE):
            continue
        if any(part.isalnum() for part in words[start:place]):
            yield Clause(tokens[start:place], words[start:place], word, conditional)
        start = place if opens else place + 1
        conditional = conditional and not stops


def read(clause: Clause, options: Options) -> Finding:
    """What a clause says of the options."""
    mentions = find_mentions(clause, options)
    denied = frozenset(mention.option for mention in mentions if _is_denied(clause, mention))
    live = [mention for mention in mentions if not _is_denied(clause, mention)]
    named = frozenset(mention.option for mention in live)
    concluding = [mention for mention in live if _is_concluded(clause, mention, options)]
    if clause.is_aside or clause.conditional or clause.ends_with == "?" or not concluding:
        return Finding(False, None, denied, named)
    first = concluding[0]
    behind = {mention.option for mention in live if mention.start >= first.start}
    option = first.option if behind == {first.option} else None
    return Finding(True, option, denied, named)


def is_bare(clause: Clause, finding: Finding, options: Options) -> bool:
    """True if the clause is an option and nothing else: "B.", "(B) heat onions"."""
    mentions = find_mentions(clause, options)
    outside = set(range(len(clause.words))) - {i for m in mentions for i in range(m.start, m.stop)}
    return len(finding.named) == 1 and not any(clause.words[i].isalnum() for i in outside)


def matches_option(clause: Clause, finding: Finding) -> bool:
    """True if the clause, which names one option, says "corresponds to option B", "matches choice B"."""
    words = clause.words
    said = any(
        word in wording.MATCHING and any(noun in ("option", "choice") for noun in words[place + 1 : place + 3])
        for place, word in enumerate(words)
    )
    return said and len(finding.named) == 1 and not finding.denied and not _doubted(clause, len(words))


# ---------------------------------------------------------------- does the clause conclude in this mention?


def _is_concluded(clause: Clause, mention: Mention, options: Options) -> bool:
    return _is_called_good(clause, mention) or (
        _ends_well(clause, mention.stop) and _is_led_to(clause, mention, options)
    )


def _is_led_to(clause: Clause, mention: Mention, options: Options) -> bool:
    """A cue, words that may stand between, the mention."""
    words, place = clause.words, mention.start
    while place > 0:
        place -= 1
        word = words[place]
        if _is_cue(words, place):
            return not _doubted(clause, place)
        if _is_therefore(words, place):
            return _may_follow_so(clause, mention, options) and not _doubted(clause, place)
        if word.isalnum() and word not in wording.BETWEEN:
            return False
    return False


def _is_cue(words: Sequence[str], place: int) -> bool:
    """ "I choose", "I'll go with", "boxed", "answer:", "the answer is" """
    word = words[place]
    if word == "boxed" or (word == ":" and place and words[place - 1] in wording.ANSWERS):
        return True
    chooses = word in wording.CHOOSING or (place > 0 and wording.WITH_PREPOSITION.get(words[place - 1]) == word)
    return (chooses and not wording.ONESELF.isdisjoint(words[:place])) or _is_copula_of_answer(words, place)


def _is_copula_of_answer(words: Sequence[str], place: int) -> bool:
    """ "is" in "the answer is", "the next step would be"; up to six words may stand before it."""
    if words[place] not in wording.IS and words[place] not in ("it's", "that's"):
        return False
    if words[place] in ("it's", "that's"):
        return place + 1 < len(words) and words[place + 1] in (
            "actually",
            "really",
            "definitely",
            "clearly",
            "option",
            "(",
        )
    before = words[max(0, place - 7) : place]
    if any(word in wording.NOT for word in before[-2:]):
        return False
    if any(word in wording.ANSWERS for word in before):
        return True
    return "next" in before and any(word in wording.STEPS for word in before)


def _may_follow_so(clause: Clause, mention: Mention, options: Options) -> bool:
    """Behind no more than a "so": not a text like "no", which says too many other things."""
    text = options.texts[mention.option]
    if any(_is_copula_of_answer(clause.words, place) for place in range(mention.start)):
        return True
    by_letter = mention.stop - mention.start == 1 and len(clause.tokens[mention.start]) == 1
    return by_letter or not (len(text) == 1 and (text[0] in wording.STANDS_ALONE_NOWHERE or not text[0].isalpha()))


def _is_called_good(clause: Clause, mention: Mention) -> bool:
    """ "B is the correct answer", "heat onions is the most logical next step" """
    behind = [word for word in clause.words[mention.stop : mention.stop + 9] if word.isalnum() or word in ("'s", ",")]
    if not behind or behind[0] not in ("is", "'s", "seems", "appears", "must", "would", "fits", "matches"):
        return False
    if _doubted(clause, mention.start) or any(word in wording.NOT for word in behind):
        return False
    if behind[0] in ("fits", "matches"):
        return behind[1:2] == ["best"]
    described = [
        word for word in behind[1:] if word not in ("to", "be", "the", "a", "clearly", "therefore", "definitely")
    ]
    if described[:1] == ["most"]:
        return described[1:2] != [] and described[1] in wording.GOOD_WITH_MOST | wording.GOOD
    return described[:1] != [] and described[0] in wording.GOOD


def _ends_well(clause: Clause, stop: int) -> bool:
    """Is the option named in full? "heat onions in oil" may be another thing than "heat onions"."""
    behind = next((word for word in clause.words[stop:] if word not in ")]}*_\"'`"), "")
    return not behind.isalnum() or behind in wording.BEHIND


def _is_denied(clause: Clause, mention: Mention) -> bool:
    """A "not" near the mention, with no comma between."""
    before = _up_to_comma(reversed(clause.words[: mention.start]))
    behind = _up_to_comma(clause.words[mention.stop :])
    own_neighbours = [*before[: _NEAR // 2], *behind[:_NEAR]]
    return any(word in wording.NOT or word.endswith("n't") for word in own_neighbours)


def _doubted(clause: Clause, place: int) -> bool:
    """A "maybe", an "if", a "some say" before the cue; a "not" with no comma between."""
    before = clause.words[:place]
    near = _up_to_comma(reversed(before))
    denied = any(word in wording.NOT or word.endswith("n't") for word in near)
    return denied or any(word in wording.DOUBT for word in before)


def _up_to_comma(words: Iterator[str] | Sequence[str]) -> list[str]:
    found: list[str] = []
    for word in words:
        if word == ",":
            break
        if word.isalnum() or "'" in word:
            found.append(word)
    return found


def _is_therefore(words: Sequence[str], place: int) -> bool:
    if words[place : place + 1] == ["so"] and words[place + 1 : place + 2]:
        return words[place + 1] not in wording.NO_THEREFORE and (
            place == 0 or words[place - 1] not in ("do", "doing", "is")
        )
    return place < len(words) and words[place] in wording.THEREFORE - {"so"}


def _joins(tokens: Sequence[str], words: Sequence[str], place: int, options: Options) -> bool:
    """True for a full stop between a letter and its own text ("B. heat onions"), and a line break behind a colon."""
    if place == 0 or place >= len(words):
        return False
    if words[place] == "\n":
        return words[place - 1] == ":" or (words[place - 1] in "*_" and words[max(0, place - 3)] == ":")
    letter = tokens[place - 1]
    if words[place] != "." or len(letter) != 1 or letter not in options.letters:
        return False
    text = options.texts[options.letters.index(letter)]
    following = [w for w in words[place + 1 : place + 1 + 2 * len(text) + 2] if w not in texts.ARTICLES and w.isalnum()]
    return bool(text) and tuple(following[: len(text)]) == text
