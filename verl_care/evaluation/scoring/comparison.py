"""Two runs on the same questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from verl_care.evaluation.rows import Row
from verl_care.evaluation.scoring.intervals import Bootstrap, Estimate, mean, sign_test
from verl_care.evaluation.scoring.responses import Responses
from verl_care.evaluation.scoring.samples import question_means
from verl_care.evaluation.scoring.summary import DIMENSIONS, Group, groups_of

Question = tuple[str, str]


@dataclass(frozen=True)
class Paired:
    """A and B by one parser or measure; a question's value is the mean of its samples."""

    questions: int
    mean_a: float
    mean_b: float
    difference: Estimate  # B - A, questions drawn in pairs
    wins: int  # questions on which B is higher
    losses: int
    p_value: float  # exact sign test over wins and losses; McNemar's where `mcnemar`
    mcnemar: bool  # all values are 0 or 1


@dataclass(frozen=True)
class GroupComparison:
    group: Group
    questions: int  # of both runs
    scores: Mapping[str, Paired]  # parser -> what it says of the questions that a rule scores
    measures: Mapping[str, Paired]  # measure -> what it says of the questions that it knows in both runs


@dataclass(frozen=True)
class Comparison:
    groups: Sequence[GroupComparison]
    only_a: Sequence[Question]
    only_b: Sequence[Question]
    differ: Sequence[Question]  # one dataset and id, but another truth, question or options: not compared
    not_scored: int  # questions of both that no rule scores


def compare(a: Responses, b: Responses, how: Bootstrap, dimensions: Sequence[str] = DIMENSIONS) -> Comparison:
    of_a, of_b = _first_rows(a), _first_rows(b)
    shared = sorted(of_a.keys() & of_b.keys())
    same = [key for key in shared if _asked(of_a[key]) == _asked(of_b[key])]
    scores = {name: (_by_question(a, a.scores[name]), _by_question(b, b.scores[name])) for name in a.scores}
    measures = {
        name: (_by_question(a, a.measures[name]), _by_question(b, b.measures[name]))
        for name in a.measures
        if name in b.measures
    }
    groups = []
    for group, mask_Q in groups_of([of_a[key] for key in same], dimensions):
        keys = [same[place] for place in np.flatnonzero(mask_Q).tolist()]
        groups.append(GroupComparison(group, len(keys), _pairs(scores, keys, how), _pairs(measures, keys, how)))
    scored = set().union(*(left.keys() & right.keys() for left, right in scores.values()))
    return Comparison(
        groups=groups,
        only_a=sorted(of_a.keys() - of_b.keys()),
        only_b=sorted(of_b.keys() - of_a.keys()),
        differ=sorted(set(shared) - set(same)),
        not_scored=len(set(same) - scored),
    )


def pair(value_a_Q: np.ndarray, value_b_Q: np.ndarray, how: Bootstrap) -> Paired:
    """Questions in one order on both sides, at least one.

    Values are sums of tenths and of samples: below 1e-9 a difference is rounding.
    """
    difference_Q = np.round(value_b_Q - value_a_Q, 9)
    wins, losses = int((difference_Q > 0).sum()), int((difference_Q < 0).sum())
    return Paired(
        questions=len(difference_Q),
        mean_a=float(value_a_Q.mean()),
        mean_b=float(value_b_Q.mean()),
        difference=mean(difference_Q, how),
        wins=wins,
        losses=losses,
        p_value=sign_test(wins, losses),
        mcnemar=bool(np.isin(np.concatenate([value_a_Q, value_b_Q]), (0.0, 1.0)).all()),
    )


def _pairs(
    columns: Mapping[str, tuple[dict[Question, float], dict[Question, float]]], keys: Sequence[Question], how: Bootstrap
) -> dict[str, Paired]:
    """Of each column with a value on both sides."""
    found = {}
    for name, (left, right) in columns.items():
        both = [key for key in keys if key in left and key in right]
        if both:
            found[name] = pair(np.array([left[key] for key in both]), np.array([right[key] for key in both]), how)
    return found


def _first_rows(responses: Responses) -> dict[Question, Row]:
    rows: dict[Question, Row] = {}
    for row in responses.rows:
        rows.setdefault((row.dataset, row.id), row)
    return rows


def _asked(row: Row) -> tuple[str, str, str, tuple[str, ...]]:
    return row.problem_type, row.ground_truth, row.question, row.options


def _by_question(responses: Responses, value_N: np.ndarray) -> dict[Question, float]:
    """Mean of the known values of each question that has some."""
    places = np.flatnonzero(~np.isnan(value_N))
    question_M = responses.question_N[places]
    first_Q = places[np.unique(question_M, return_index=True)[1]].tolist()
    means_Q = question_means(value_N[places], question_M).tolist()
    rows = [responses.rows[place] for place in first_Q]
    return {(row.dataset, row.id): value for row, value in zip(rows, means_Q, strict=True)}
