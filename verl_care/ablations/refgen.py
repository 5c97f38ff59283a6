"""RefGen: the reference answers again from the response's own reasoning, and is paid for being right. Pure.

    bonus = bonus_coefficient * accuracy of the reference's answer

Source: the ablation RefGen of arXiv 2506.16141, whose code is not released. The reference has no sampler of its own,
and needs none: one pass over the responses (`verl_care.ablations.choices`) says what it would have written at each
position. Up to the first position where that is something else than the response, every prefix is the one it would have
written itself, so its choices there ARE its own answer: greedy from likeliest tokens, sampled from drawn ones.

A sampled answer of one token is right with the probability that the reference gives the right letter. So the mean bonus
of a right response is DenseCons's, coefficient * likelihood; a wrong one is paid as well (4).

Deviations from the paper, and what it leaves open:

1. Sampled once, at temperature 1 from all tokens; `care.refgen_answer=greedy` takes the likeliest. Nothing is said
   there. A greedy answer is the same behind most reasonings of a group, and then the bonus tells none from another
   (docs/evidence-hole.md).
2. The reference answers behind the response's own `<answer`, so an answer in another format cannot occur.
3. At the first token where the reference leaves the response, this token ends its answer. For an option's letter that
   is the whole answer (`>B` is one token); for anything longer the rest is not known, so only multiple choice is
   accepted. SEED-Bench-R1, on which the published number was made, is multiple choice throughout.
4. Every response with an answer is paid, wrong ones too where the reference answers right: no set S, no cap, no mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from verl_care.algorithm.spans import CLOSE
from verl_care.rewards import grading

MULTIPLE_CHOICE = "multiple choice"


def reference_answer(
    response: Sequence[int], choice: Sequence[int], span: tuple[int, int], text_of: Callable[[Sequence[int]], str]
) -> str:
    """The response with the reference's answer in place of its own, closed.

    Args:
        response: its token ids, (T,).
        choice: the token id that the reference picks at each of these positions, given all before it, (T,).
        span: the answer's tokens `[start, stop)`.
        text_of: token ids -> text.
    """
    start, stop = span
    for position in range(start, stop):
        if choice[position] != response[position]:
            return _closed(text_of([*response[:position], choice[position]]))
    return _closed(text_of(response[:stop]))


def _closed(text: str) -> str:
    """With the closing tag, of which the last token may have begun something already ("A</")."""
    begun = next((length for length in range(len(CLOSE), 0, -1) if text.endswith(CLOSE[:length])), 0)
    return text[: len(text) - begun] + CLOSE


def reference_accuracy(
    response: Sequence[int],
    choice: Sequence[int],
    span: tuple[int, int] | None,
    *,
    ground_truth: str,
    problem_type: str,
    text_of: Callable[[Sequence[int]], str],
) -> float:
    """Accuracy of the reference's answer; 0 for a response that has no answer, where its reasoning has no end.

    Raises:
        ValueError: for a problem that is not multiple choice (deviation 3).
    """
    if problem_type != MULTIPLE_CHOICE:
        raise ValueError(
            f"care.bonus=refgen met a problem of type {problem_type!r}: from one pass the reference's answer is known"
            " for multiple choice only. Train on multiple-choice rows, or set care.bonus=hard."
        )
    if span is None:
        return 0.0
    return grading.grade(problem_type, reference_answer(response, choice, span, text_of), ground_truth)
