"""The score of one response, and every point where a reader may want another rule.

Default is the released evaluation (TencentARC/GRPO-CARE b0628fc, `src/eval_bench.py`) but for two points:

1. `failures`. There, a batch of four in which anything fails is skipped, and the mean is over what is left: a model is
   not blamed for clips that it could not be shown, and three of its answers are lost with each. Here a failure counts
   as wrong. "drop" leaves out the failed rows alone, "drop_batches" the four, as released.
2. `open_answers`. There, OCR and free-form have no rule and count as wrong. Here they are not scored, and said to be
   so. "graded" scores them, and mathematics, by the rule of training; "zero" is as released.

Two points are as released, and have another rule on demand:

3. `relative`. Mean relative accuracy in the release's arithmetic, or VSI-Bench's own: see `relative_accuracy`.
4. `no_block`. A response without a closed answer block is taken whole, so that a bare "B" is right; "wrong" is what the
   training reward says of it. An empty block is no block.

One deviation has no option: infinity is no number, here as in the training reward; in the release `inf` equals `inf`.
Starting again, the release skips as many questions as it has results and so asks others twice; that is its generation,
which `care_evaluate` does not repeat.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from verl_care.evaluation.rows import Row
from verl_care.evaluation.scoring.answers import bare_truth, block_answer, exact_answer
from verl_care.evaluation.scoring.lenient import lenient_number, option_letter, place_of
from verl_care.evaluation.scoring.relative_accuracy import Arithmetic, mean_relative_accuracy
from verl_care.rewards.grading import GRADERS, number

PARSERS = ("exact", "lenient")
BATCH = 4
_CHOICE, _NUMERICAL, _REGRESSION = "multiple choice", "numerical", "regression"


@dataclass(frozen=True)
class Rules:
    failures: Literal["count", "drop", "drop_batches"] = "count"
    open_answers: Literal["unscored", "graded", "zero"] = "unscored"
    relative: Arithmetic = "released"
    no_block: Literal["whole", "wrong"] = "whole"


AS_RELEASED = Rules(failures="drop_batches", open_answers="zero")


class Reading(NamedTuple):
    """What one parser makes of one response."""

    score: float | None  # in [0, 1]; None: no rule scores this problem type
    answer: Hashable | None  # equal for responses that answer the same; None: no answer found


class Readings(NamedTuple):
    exact: Reading
    lenient: Reading


def read_response(row: Row, rules: Rules) -> Readings:
    """Both parsers' view of a row; a row without a response scores 0 where its problem type is scored.

    Lenient never takes away: its score is at least the exact one.
    """
    response, truth = row.response or "", bare_truth(row.ground_truth)
    if row.problem_type == _CHOICE:
        exact, lenient = _choice(row, response, truth, rules)
    elif row.problem_type in (_NUMERICAL, _REGRESSION):
        exact, lenient = _number(row, response, truth, rules)
    else:
        exact, lenient = _open(row, response, truth, rules)
    if exact.score is not None and lenient.score is not None and lenient.score < exact.score:
        lenient = exact
    return Readings(exact, lenient)


def _choice(row: Row, response: str, truth: str, rules: Rules) -> Readings:
    exact, lenient = exact_answer(response, rules.no_block == "whole"), option_letter(response, row.options)
    grade = GRADERS[_CHOICE]
    return Readings(Reading(grade(exact or "", truth), exact), Reading(float(lenient == truth), lenient))


def _number(row: Row, response: str, truth: str, rules: Rules) -> Readings:
    """Numerical: lenient does not ask that both or neither be written with a decimal sign."""
    text, lenient, wanted = (
        exact_answer(response, rules.no_block == "whole") or "",
        lenient_number(response),
        number(truth),
    )
    exact = number(text)
    if row.problem_type == _REGRESSION:
        return Readings(_relative(exact, wanted, rules), _relative(lenient, wanted, rules))
    same = lenient is not None and wanted is not None and round(lenient, 2) == round(wanted, 2)
    return Readings(Reading(GRADERS[_NUMERICAL](text, truth), _cents(exact)), Reading(float(same), _cents(lenient)))


def _relative(answer: float | None, truth: float | None, rules: Rules) -> Reading:
    score = 0.0 if answer is None or truth is None else mean_relative_accuracy(answer, truth, rules.relative)
    return Reading(score, answer)


def _cents(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _open(row: Row, response: str, truth: str, rules: Rules) -> Readings:
    exact, lenient = exact_answer(response, rules.no_block == "whole"), place_of(response)[0] or None
    grade = GRADERS.get(row.problem_type)
    if rules.open_answers == "unscored" or grade is None:
        return Readings(Reading(None, exact), Reading(None, lenient))
    if rules.open_answers == "zero" or row.response is None:
        return Readings(Reading(0.0, exact), Reading(0.0, lenient))
    score = grade(exact or "", truth)
    same = lenient == exact
    return Readings(Reading(score, exact), Reading(score if same else grade(lenient or "", truth), lenient))


def has_answer_block(row: Row) -> bool:
    return row.response is not None and block_answer(row.response) is not None
