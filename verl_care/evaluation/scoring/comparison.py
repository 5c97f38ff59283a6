"""Two runs on the same questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from verl_care.evaluation.rows import Row
from verl_care.evaluation.scoring.intervals import Bootstrap, Estimate, mean, sign_test
from verl_care.evaluation.scoring.responses import Responses
from verl_care.evaluation.scoring.rules import PARSERS
from verl_care.evaluation.scoring.samples import question_means
from verl_care.evaluation.scoring.summary import DIMENSIONS, Group, groups_of

Question = tuple[str, str]


@dataclass(frozen=True)
class Paired:
    """A and B under one parser; a question's score is the mean of its samples."""

    mean_a: float
    mean_b: float
    difference: Estimate  # B - A, questions drawn in pairs
    wins: int  # questions on which B scores higher
    losses: int
    p_value: float  # exact sign test over wins and losses; McNemar's where `mcnemar`
    mcnemar: bool  # all scores are 0 or 1


@dataclass(frozen=True)
class GroupComparison:
    group: Group
    questions: int
    paired: Mapping[str, Paired]  # parser -> what it says


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
    differ = [key for key in shared if _asked(of_a[key]) != _asked(of_b[key])]
    apart = set(differ)
    same = [key for key in shared if key not in apart]
    scores = {parser: (_by_question(a, parser), _by_question(b, parser)) for parser in PARSERS}
    scored = [key for key in same if all(key in side for pair in scores.values() for side in pair)]
    groups = []
    for group, mask_Q in groups_of([of_a[key] for key in scored], dimensions):
        keys = [scored[place] for place in np.flatnonzero(mask_Q)]
        paired = {
            parser: pair(np.array([left[key] for key in keys]), np.array([right[key] for key in keys]), how)
            for parser, (left, right) in scores.items()
        }
        groups.append(GroupComparison(group, len(keys), paired))
    return Comparison(
        groups, sorted(of_a.keys() - of_b.keys()), sorted(of_b.keys() - of_a.keys()), differ, len(same) - len(scored)
    )


def pair(score_a_Q: np.ndarray, score_b_Q: np.ndarray, how: Bootstrap) -> Paired:
    """Questions on both sides in one order, at least one.

    Scores are sums of tenths and of samples: below 1e-9 a difference is rounding.
    """
    difference_Q = np.round(score_b_Q - score_a_Q, 9)
    estimate = mean(difference_Q, how)
    assert estimate is not None
    wins, losses = int((difference_Q > 0).sum()), int((difference_Q < 0).sum())
    binary = bool(np.isin(np.concatenate([score_a_Q, score_b_Q]), (0.0, 1.0)).all())
    return Paired(
        float(score_a_Q.mean()), float(score_b_Q.mean()), estimate, wins, losses, sign_test(wins, losses), binary
    )


def _first_rows(responses: Responses) -> dict[Question, Row]:
    rows: dict[Question, Row] = {}
    for row in responses.rows:
        rows.setdefault((row.dataset, row.id), row)
    return rows


def _asked(row: Row) -> tuple[str, str, str, tuple[str, ...]]:
    return row.problem_type, row.ground_truth, row.question, row.options


def _by_question(responses: Responses, parser: str) -> dict[Question, float]:
    kept_N = ~np.isnan(responses.scores[parser])
    if not kept_N.any():
        return {}
    places = np.flatnonzero(kept_N)
    question_M = responses.question_N[kept_N]
    first_Q = places[np.unique(question_M, return_index=True)[1]]
    means_Q = question_means(responses.scores[parser][kept_N], question_M)
    rows = [responses.rows[place] for place in first_Q]
    return {(row.dataset, row.id): float(score) for row, score in zip(rows, means_Q, strict=True)}
