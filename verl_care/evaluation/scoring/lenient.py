"""What a response answers, read generously: how a person would take it who does not mind the format.

The place is the closed answer block, else an answer block that was never closed, else what follows the reasoning, else
everything. Inside a block nearly any wording counts; elsewhere only a last line that is an answer, a box, or words such
as "the answer is B". Where two answers could be meant there is none. No response is shown the truth.

Hostile text: only the first and last `WINDOW` characters of the place are looked at, and the place is found by
`str.find`; so time is linear in the response and no pattern sees more than a window.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import TypeVar

from verl_care.algorithm.spans import CLOSE, OPEN
from verl_care.data.prompts import LETTERS, without_letters
from verl_care.evaluation.scoring.answers import block_answer
from verl_care.rewards.grading import number

WINDOW = 2000
_THINK_CLOSE = "</think>"
_DECORATION = str.maketrans(dict.fromkeys('*`$"“”„«»') | {"−": "-"})
_BRACKETS = " \t\r\n.,:;!?()[]{}<>'’"
_BOX = re.compile(r"\\f?box(?:ed)?\{")
_TEXT_COMMAND = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mathit)\{")
_SAYS = re.compile(
    r"\b(?:answer(?: to (?:the|this) question)?|(?:best|correct|right|final) (?:option|choice|action|step))\b[ \t]{0,3}"
    r"(?:(?:is|was|would be|should be|must be)\b)?[ \t]{0,3}[:=]?\s{0,3}"
    r"(?:(?:the |definitely )?(?:option|choice|letter)\b[ \t:]{0,3})?",
    re.IGNORECASE,
)
_NAMED = re.compile(r"\b(?:option|choice|letter)\b[ \t:]{0,3}", re.IGNORECASE)
# Capital letters that stand alone. "A drawer" and "I think" are words: then a small letter follows a blank.
_STANDING = re.compile(r"(?<![\w'’])(?:[AI](?![ \t]{1,3}[a-z])|[B-HJ-Z]|[AI](?= (?:because|since|or|and)\b))(?![\w'’])")
_LEADING = re.compile(r"[(\[]?([A-Za-z])[)\].:,\-]+\s*(.*)", re.DOTALL)
_DENIAL = re.compile(r"\b(?:not|neither|nor|none|except|cannot|n/a)\b|n['’]t\b", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\w.^])[-+]?(?:\d{1,3}(?:,\d{3})+(?![\d,])|\d+|(?=\.\d))(?:\.\d+)?(?:[eE][-+]?\d{1,3})?")
_WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
# "one hundred" is not 1 and "3 and a half" not 3: beside such a word nothing is read.
_PARTS = frozenset(
    (
        *("thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety", "hundred", "thousand", "million"),
        *("billion", "dozen", "half", "third", "quarter"),
    )
)
_WORD_VALUES = {word: float(value) for value, word in enumerate(_WORDS)}
_LETTER_WORDS = re.compile(r"[^\W\d_]+")

Found = TypeVar("Found", str, float)


def place_of(response: str) -> tuple[str, bool]:
    """(where the answer should be, is that an answer block)."""
    inside = block_answer(response)
    if inside is not None:
        return inside, True
    opened = response.rfind(OPEN)
    if opened >= 0 and response.find(CLOSE, opened) < 0:
        tail = response[opened + len(OPEN) :].strip()
        if tail:
            return tail, True
    reasoned = response.rfind(_THINK_CLOSE)
    behind = response[reasoned + len(_THINK_CLOSE) :].strip() if reasoned >= 0 else ""
    return behind or response.strip(), False


def option_letter(response: str, options: Sequence[str]) -> str | None:
    """The letter of the option that is meant; None where it is none or could be two.

    Args:
        options: each with its letter in front ("A. open drawer"); without options every letter is possible.
    """
    texts = _option_texts(options)
    place, block = place_of(response)
    exact = place if block else response.strip()
    if exact in texts:
        return exact
    return _read(place, block, lambda text, loose: _letter(text, texts, loose), lambda text: _said(text, texts, block))


def lenient_number(response: str) -> float | None:
    """The number that is meant, units and words around it left aside; None where it is none or could be two."""
    place, block = place_of(response)
    exact = number(place if block else response)
    if exact is not None:
        return exact
    return _read(place, block, lambda text, _: _only_number(text), _said_number)


def _read(
    place: str, block: bool, meant: Callable[[str, bool], Found | None], said: Callable[[str], Found | None]
) -> Found | None:
    """A box, then the whole block, then words that announce an answer, then the last line."""
    head, tail = place[:WINDOW].translate(_DECORATION), place[-WINDOW:].translate(_DECORATION)
    boxed = _boxed(tail)
    if boxed is not None:
        return meant(boxed, True)
    if block and len(place) <= WINDOW and (found := meant(head, True)) is not None:
        return found
    found = said(tail)
    if found is not None or block:
        return found
    lines = tail.strip().splitlines() or [""]
    return meant(lines[-1], False)


def _boxed(text: str) -> str | None:
    """Content of the last box."""
    boxes = list(_BOX.finditer(text))
    if not boxes:
        return None
    content = _TEXT_COMMAND.sub("", text[boxes[-1].end() :])
    return content.partition("}")[0]


def _option_texts(options: Sequence[str]) -> dict[str, str]:
    """Letter -> the option's text, ready to compare."""
    if not options:
        return dict.fromkeys(LETTERS, "")
    texts = without_letters(options) or options
    return {letter: _comparable(text) for letter, text in zip(LETTERS, texts, strict=False)}


def _comparable(text: str) -> str:
    """Without case, spacing, or marks at either end."""
    text = unicodedata.normalize("NFKC", text[:WINDOW]).casefold()
    return " ".join(text.translate(_DECORATION).strip(_BRACKETS).split())


def _letter(text: str, texts: dict[str, str], loose: bool) -> str | None:
    """The option that a whole text is: its letter, its words, or both; if `loose`, the only letter in a short text."""
    text = unicodedata.normalize("NFKC", text[:WINDOW]).strip()
    bare = text.strip(_BRACKETS)
    if len(bare) == 1 and bare.upper() in texts:
        return bare.upper()
    words = _comparable(text)
    same = [letter for letter, option in texts.items() if option and option == words]
    if same:
        return same[0] if len(same) == 1 else None
    leading = _LEADING.match(text)
    if leading and leading[1].upper() in texts:
        letter, rest = leading[1].upper(), _comparable(leading[2])
        another = any(option and option == rest for name, option in texts.items() if name != letter)
        return None if another or _standing(leading[2], texts) - {letter} else letter
    for letter, option in texts.items():
        if option and words == f"{letter.casefold()} {option}":
            return letter
    if not loose or len(text) > 200 or _DENIAL.search(text):
        return None
    found = _standing(text, texts)
    return found.pop() if len(found) == 1 else None


def _standing(text: str, texts: dict[str, str]) -> set[str]:
    """Option letters that stand alone in a text."""
    return {match[0] for match in _STANDING.finditer(text[:WINDOW])} & texts.keys()


def _said(text: str, texts: dict[str, str], block: bool) -> str | None:
    """The letter behind "the answer is" or "Answer:", in a block behind "option" too; the last one counts outside
    of a block, and inside all must agree."""
    text = unicodedata.normalize("NFKC", text)
    for announced in (_SAYS, _NAMED) if block else (_SAYS,):
        found = [letter for match in announced.finditer(text) if (letter := _next(text[match.end() :], texts))]
        if found:
            return found[-1] if not block or len(set(found)) == 1 else None
    return None


def _next(text: str, texts: dict[str, str]) -> str | None:
    """The letter, or the option's words, that a text begins with; None for "A or B"."""
    line = text[:200].lstrip("([ ").partition("\n")[0]
    standing = _STANDING.match(line)
    if standing and standing[0] in texts:
        others = re.match(r"[)\]]?\s{0,3}(?:,|/|\bor\b|\band\b)\s{0,3}", line[1:])
        return None if others and _standing(line[1 + others.end() :][:4], texts) else standing[0]
    return _letter(line, texts, loose=False)


def _said_number(text: str) -> float | None:
    """The number in the line behind the last "the answer is"."""
    ends = [match.end() for match in _SAYS.finditer(text)]
    return _only_number(text[ends[-1] :].partition("\n")[0]) if ends else None


def _only_number(text: str) -> float | None:
    """The only number of a text, in digits or else in words up to twenty."""
    text = text[:WINDOW]
    spoken = {match[0].casefold().removesuffix("s") for match in _LETTER_WORDS.finditer(text)}
    if spoken & _PARTS:
        return None
    values = {value for match in _NUMBER.finditer(text) if (value := number(match[0])) is not None}
    if not values:
        values = {_WORD_VALUES[word] for word in spoken & _WORD_VALUES.keys()}
    return values.pop() if len(values) == 1 else None
