"""Are two mathematical expressions equal? Asked of math-verify, in a helper process that can be ended.

math-verify parses LaTeX and lets SymPy compare, which a short text can keep busy for years (`9^{9^{9^{9}}}`). Its own
time limits are signals, which work in a main thread only; grading runs in threads. So they are off, and the limit is
that of `verl_care.processes.helper`. Of what it offers only the LaTeX reading is used: its reading of plain expressions
ends in `eval`, and picks a number out of a sentence.
"""

from __future__ import annotations

import logging
import re
import threading
from functools import lru_cache

from verl_care.processes.helper import HelperError, HelperProcess

ANSWER_CHARACTERS = 500
"""A longer answer is wrong: the final answers of the data have a line at most, and parsing is not linear."""

SECONDS = 3.0
"""For one comparison. What a person would write takes milliseconds, the first one of a run half a second."""

_COMMAND = re.compile(r"\\[A-Za-z]+")
_WORD = re.compile(r"[^\W\d_]{2,}")

_log = logging.getLogger(__name__)
_helper = HelperProcess("verl_care.rewards.math_worker", SECONDS)
_no_verdict = 0
_count = threading.Lock()


def same_value(answer: str, truth: str) -> bool:
    """Is `answer` equal to `truth`, as text or as mathematics (`\\frac{1}{2}` and `0.5`, `x=5` and `5`)?

    Bounded in time: what is too long, takes more than `SECONDS` or more memory than the helper has is not equal; of
    the last two a warning counts how many there were. Nothing in `answer` raises.

    Raises:
        HelperNotStarted: if math-verify cannot be loaded.
    """
    if not answer or not truth or max(len(answer), len(truth)) > ANSWER_CHARACTERS:
        return False
    return answer == truth or _compared(answer, truth)


def is_mathematics(truth: str) -> bool:
    """Is `truth` what this problem type can grade: mathematics to math-verify, and no prose?

    To math-verify `yes` is e * s * y. So LaTeX commands aside, a text without a digit has no two letters in a row, one
    with a digit at most two words (`12 square units`), and what math-verify reads has at most three different letters.

    Raises:
        HelperNotStarted: if math-verify cannot be loaded.
    """
    if not 0 < len(truth) <= ANSWER_CHARACTERS:
        return False
    words = _WORD.findall(_COMMAND.sub(" ", truth))
    prose = len(words) > 2 if any(sign.isdecimal() for sign in truth) else words
    return not prose and bool(_ask({"read": as_latex(truth)}))


def as_latex(text: str) -> str:
    """`text` as math-verify reads it: between dollars, unless it says itself where its mathematics begins."""
    text = text.strip().removesuffix(".").replace("°", r"^\circ")
    if any(mark in text for mark in ("$", r"\(", r"\[", r"\boxed")):
        return text
    number = text.removesuffix("%").removesuffix("\\")
    return f"${number}$%" if text.endswith("%") else f"${text}$"  # math-verify looks for a per cent sign outside


@lru_cache(maxsize=4096)  # the responses to one prompt repeat each other
def _compared(answer: str, truth: str) -> bool:
    return bool(_ask({"truth": as_latex(truth), "answer": as_latex(answer)}))


def _ask(question: dict[str, str]) -> bool | None:
    """None: no verdict."""
    global _no_verdict
    try:
        return _helper.ask(question)
    except HelperError as error:
        with _count:
            _no_verdict += 1
        _log.warning("math answer without a verdict, taken as wrong (%s); %d so far", error, _no_verdict)
        return None
