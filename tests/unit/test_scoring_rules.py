"""The rules' options: the released evaluation, and each deviation from it."""

from __future__ import annotations

import pytest

from tests.unit.evaluated import a_row, answered, scored
from verl_care.evaluation.scoring.relative_accuracy import mean_relative_accuracy
from verl_care.evaluation.scoring.rules import Rules, read_response
from verl_care.evaluation.scoring.vsi_bench import TYPES, official_score, type_of


@pytest.mark.parametrize(
    ("answer", "truth", "released", "vsibench"),
    [
        (100.0, 100.0, 1.0, 1.0),
        (7.0, 8.0, 0.8, 0.8),  # error .125: within .5, .45, ..., .15
        (105.1, 100.0, 0.9, 0.9),  # .051: all but .05
        (3.0, 2.0, 0.0, 0.1),  # .5: not below 1 - .5, yet within
        (5.0, 4.0, 0.5, 0.6),  # .25: below .5, .45, .4, .35, .3; and within .25
        (1.0, 2.0, 0.0, 0.1),
        (0.0, 5.0, 0.0, 0.0),
        (-5.0, 5.0, 0.0, 0.0),
        (-5.0, -5.0, 1.0, 1.0),
        (0.0, 0.0, 1.0, 1.0),
        (0.001, 0.0, 0.0, 0.0),
        (1e300, 5.0, 0.0, 0.0),  # infinite in float32
    ],
)
def test_mean_relative_accuracy(answer, truth, released, vsibench):
    assert mean_relative_accuracy(answer, truth) == released
    assert mean_relative_accuracy(answer, truth, "vsibench") == vsibench


def both(response: str | None, truth: str, kind: str, rules: Rules | None = None) -> tuple[float | None, float | None]:
    found = read_response(a_row("1", response, truth, problem_type=kind), rules or Rules())
    return found.exact.score, found.lenient.score


def test_exact_and_lenient_scores():
    assert both(answered("A"), "A", "multiple choice") == (1, 1)
    assert both(answered("A."), "A", "multiple choice") == (0, 1)
    assert both(answered("B."), "A", "multiple choice") == (0, 0)
    assert both(answered("3"), "3.0", "numerical") == (0, 1)  # only one is written with a point
    assert both(answered("1,250"), "1250", "numerical") == (0, 1)  # the comma counts as one
    assert both(answered("3 m"), "3", "numerical") == (0, 1)
    assert both(answered("3.004"), "3.00", "numerical") == (1, 1)
    assert both(answered("about 7 chairs"), "8", "regression") == (0, 0.8)
    assert both(answered("A"), "<answer>A</answer>", "multiple choice") == (1, 1)
    assert both(None, "A", "multiple choice") == (0, 0)
    assert both(None, "8", "regression") == (0, 0)


def test_a_response_without_a_block():
    assert both("A", "A", "multiple choice") == (1, 1)
    assert both("A", "A", "multiple choice", Rules(no_block="wrong")) == (0, 1)
    assert both("8", "8", "regression", Rules(no_block="wrong")) == (0, 1)


def test_open_answers():
    assert both(answered("grab knife"), "grab knife", "OCR") == (None, None)
    assert both(None, "grab knife", "OCR") == (None, None)
    zero, graded = Rules(open_answers="zero"), Rules(open_answers="graded")
    assert both(answered("grab knife"), "grab knife", "OCR", zero) == (0, 0)
    assert both(answered("grab knife"), "grab the knife", "OCR", graded) == pytest.approx((2 / 3, 2 / 3))  # 1 edit of 3
    assert both("<think>x</think> grab knife", "grab knife", "OCR", graded) == (0.5, 1)  # a word too many, of 2
    assert both(None, "", "OCR", graded) == (0, 0)
    assert both(answered("x"), "x", "no such type", graded) == (None, None)


def test_relative_accuracy_by_vsi_bench():
    assert both(answered("3"), "2", "regression", Rules(relative="vsibench")) == (0.1, 0.1)


def test_infinity_is_no_number():
    assert both(answered("inf"), "inf", "numerical") == (0, 0)


def test_failures_dropped_are_counted():
    rows = [a_row("1", None), a_row("2", answered("A"))]
    assert scored(*rows).dropped == 0
    dropped = scored(*rows, rules=Rules(failures="drop"))
    assert (dropped.dropped, len(dropped.rows)) == (1, 1)


# VSI-Bench

WORDINGS = {
    "object_counting": "How many chair(s) are in this room?",
    "object_size_estimation": "What is the length of the longest dimension (length, width, or height) of the sofa?",
    "room_size_estimation": "What is the size of this room (in square meters)?",
    "object_abs_distance": "Measuring from the closest point of each object, what is the distance between a and b?",
    "object_rel_distance": "Measuring from the closest point of each object, which of these objects is the closest?",
    "object_rel_direction_easy": "If I am standing by the bed, is the tv to the left or the right of the sofa?",
    "object_rel_direction_medium": "If I am standing by the bed, is the tv to my left, right, or back?",
    "object_rel_direction_hard": "If I am standing by the bed, is the tv to my front-left, front-right, or back-left?",
    "obj_appearance_order": "What will be the first-time appearance order of the following categories: bed, tv?",
    "route_planning": "You are a robot beginning at the bed. Turn back, left, right, or back?",
}


@pytest.mark.parametrize("kind", TYPES)
def test_types_by_wording_and_by_tag(kind):
    assert type_of(a_row("1", "", question=WORDINGS[kind])) == kind
    assert type_of(a_row("1", "", question="?", tags={"task_type": kind.upper()})) == kind
    assert type_of(a_row("1", "", question="?", tags={"task_type": "size"})) is None


def test_official_scores():
    def score(response: str | None, truth: str, kind: str) -> float | None:
        return official_score(a_row("1", response, truth, dataset="vsibench/multiple_choice", tags={"task_type": kind}))

    assert score(answered("a. left"), "A", "route_planning") == 1  # first word, no full stop, any case
    assert score(answered("(A)"), "A", "route_planning") == 0
    assert score(answered("3 chairs"), "2", "object_counting") == 0.1
    assert score(answered("chairs"), "2", "object_counting") == 0
    assert score(None, "2", "object_counting") == 0
    assert official_score(a_row("1", answered("A"))) is None  # another benchmark
    assert score(answered("A"), "A", "unheard of") is None
