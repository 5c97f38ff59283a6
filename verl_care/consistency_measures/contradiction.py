"""Contradiction: does the reasoning conclude in another option than the answer? By rule, precision first. Pure.

Source: the complaint is VLM-R1#162 and others; the rule is ours. Where a careful reader could doubt, it says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from verl_care.consistency_measures import texts, wording
from verl_care.consistency_measures.conclusions import Finding, clauses, is_bare, matches_option, read
from verl_care.consistency_measures.mentions import Clause, Options

READ_CHARACTERS = 8000
"""From the end of the reasoning; a conclusion that has more text behind it is none. Bounds the time."""
_LISTED = -1
"""The clause is an item of a list of options."""


def contradiction(response: str, options: Sequence[str]) -> float | None:
    """1 if the reasoning of a response concludes in the option it answers, 0 if in another.

    Args:
        response: the whole response; the reasoning is what stands before its first closed answer block.
        options: in the order of their letters, with the letters ("A. text") or without.

    Returns:
        None where the answer names no option, or the reasoning does not name exactly one as its conclusion.
    """
    parts = texts.split(response)
    answered = texts.option_of(parts.answer, options) if parts else None
    if parts is None or answered is None:
        return None
    concluded = concluded_option(parts.reasoning, options)
    return None if concluded is None else float(concluded == answered)


def concluded_option(reasoning: str, options: Sequence[str]) -> int | None:
    """Index of the one option that a reasoning concludes in; None where it concludes in none, or in several.

    The last conclusion counts. It is lost again by what takes it back ("wait", "but", "that is wrong") and by a later
    sentence that denies it or names another option, unless another conclusion follows. A last sentence that is an
    option and nothing else ("(B)", no item of a list) or that "corresponds to option B" is a conclusion too.
    """
    names = Options.of(options)
    concluded: int | None = None
    any_cue = False
    alone: int | None = None
    """The one option that the clause read last names without a cue, in a way that ends a reasoning."""
    for clause in clauses(reasoning[-READ_CHARACTERS:], names):
        finding = read(clause, names)
        concluded, any_cue = _after(concluded, clause, finding), any_cue or finding.concludes
        alone = _alone(clause, finding, names, before=alone)
    if any_cue:
        return concluded
    return None if alone == _LISTED else alone


def _after(concluded: int | None, clause: Clause, finding: Finding) -> int | None:
    """What is concluded once this clause has been read too."""
    if finding.concludes:
        return finding.option
    if clause.is_aside:
        return concluded
    withdrawn = not finding.named and not finding.denied and any(word in wording.WITHDRAWN for word in clause.words)
    if clause.takes_back or withdrawn or concluded in finding.denied:
        return None
    return None if finding.named - {concluded} else concluded


def _alone(clause: Clause, finding: Finding, options: Options, before: int | None) -> int | None:
    """The option that this clause would conclude in as the last one; `before` is the clause's before it."""
    if clause.ends_with == "?" or clause.conditional or clause.is_aside:
        return None
    named = next(iter(finding.named), None)
    if is_bare(clause, finding, options):
        return named if before in (None, named) else _LISTED
    return named if matches_option(clause, finding) else None
