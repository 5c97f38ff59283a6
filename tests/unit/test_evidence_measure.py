"""The miniature's measures, on responses whose worth is plain to see."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.evidence.measure import Response, measure
from recipes.quickstart.consistency_rule import respond
from verl_care.rewards.grading import grade

OPTIONS = ("pour", "stir", "chop", "peel")
PROMPT = "What next?Options:\nA. pour\nB. stir\nC. chop\nD. peel\n"


def judged(conclusion: str, letter: str, truth: int = 1) -> Response:
    return Response.of(respond(["mix"], conclusion, letter), OPTIONS, truth, 20)


GOOD = judged("stir", "B")  # right for the right reason
CONTRADICTED = judged("pour", "B")  # right, and its reasoning says A
OFF_LIST = judged("bake", "B")  # right, and its reasoning says what no letter stands for
FAITHFUL = judged("pour", "A")  # wrong, as its reasoning is
BABBLE = Response.of("B", OPTIONS, 1, 1)
DRIFTED = Response.of(
    "<think> seen mix.>D stir </think>\n<answer>B</answer>", OPTIONS, 1, 20
)  # no "so", as a run wrote


def test_each_kind_of_response():
    assert (GOOD.accuracy, GOOD.consistent, GOOD.conclusion_right) == (1, True, True)
    assert (CONTRADICTED.accuracy, CONTRADICTED.consistent, CONTRADICTED.conclusion_listed) == (1, False, True)
    assert (OFF_LIST.accuracy, OFF_LIST.consistent, OFF_LIST.conclusion_listed) == (1, False, False)
    assert (FAITHFUL.accuracy, FAITHFUL.consistent, FAITHFUL.conclusion_right) == (0, True, False)
    assert (BABBLE.in_grammar, BABBLE.accuracy, BABBLE.consistent) == (False, 0, False)
    assert (DRIFTED.in_grammar, DRIFTED.accuracy, DRIFTED.consistent) == (False, 0, False)


def test_a_letter_is_right_as_the_reward_finds_it():
    kinds = (GOOD, CONTRADICTED, OFF_LIST, FAITHFUL, BABBLE, DRIFTED)
    assert [found.right_letter for found in kinds] == [True, True, True, False, False, True]
    assert measure(kinds)["right_letter"] == pytest.approx(4 / 6)


def test_the_letter_is_the_one_that_is_rewarded():
    # as a run of noKL wrote: the reward reads the first closed answer, and so does the rule
    doubled = respond(["mix"], "stir", "B") + "D</answer>"
    found = Response.of(doubled, OPTIONS, 1, 22)
    assert (found.right_letter, found.accuracy, found.consistent) == (True, 1, True)
    assert grade("multiple choice", doubled, "B") == 1


def test_without_so_the_last_step_that_is_named_is_the_conclusion_loosely():
    kinds = (GOOD, CONTRADICTED, OFF_LIST, FAITHFUL, BABBLE, DRIFTED)
    assert [found.consistent_loosely for found in kinds] == [True, False, False, True, False, True]
    assert measure(kinds)["consistency_loose"] == pytest.approx(3 / 6)
    doubled = Response.of("<think> seen mix, pour.. stir </think>\n<answer>B</answer>A</answer>", OPTIONS, 1, 22)
    assert (doubled.consistent, doubled.consistent_loosely) == (False, True)
    behind = Response.of("<think> seen mix </think> stir\n<answer>B</answer>", OPTIONS, 1, 20)  # no reasoning any more
    unanswered = Response.of("<think> seen stir", OPTIONS, 1, 4)
    listless = Response.of("<think> seen stir </think>\n<answer></answer>", OPTIONS, 1, 9)
    assert not any(found.consistent_loosely for found in (behind, unanswered, listless))


PIECES = ("<think>", "</think>", "<answer>", "</answer>", " so stir ", " so ", "B", "D", "\n", " ")


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join), st.sampled_from(range(4)))
def test_in_the_grammar_accuracy_is_the_right_letter(text: str, truth: int):
    found = Response.of(text, OPTIONS, truth, 20)
    assert found.accuracy == (found.right_letter and found.in_grammar)


def test_a_letter_outside_the_list_is_neither_accurate_nor_consistent():
    found = judged("stir", "E")
    assert (found.accuracy, found.consistent) == (0, False)


def test_means_over_all_five():
    found = measure([GOOD, CONTRADICTED, OFF_LIST, FAITHFUL, BABBLE])
    assert found["accuracy"] == pytest.approx(3 / 5)  # the first three
    assert found["consistency"] == pytest.approx(2 / 5)  # good, faithful
    assert found["right_reason"] == pytest.approx(1 / 5)
    assert found["right_contradicted"] == pytest.approx(2 / 5)
    assert found["conclusion_listed"] == pytest.approx(3 / 5)
    assert found["format"] == pytest.approx(4 / 5)
    assert found["unsupported"] == pytest.approx(2 / 5)  # contradicted, off the list
    assert "lamp" not in found
    assert found["length"] == pytest.approx((4 * 20 + 1) / 5)


def test_a_right_letter_outside_the_grammar_is_unsupported():
    found = measure([GOOD, DRIFTED])
    assert (found["right_contradicted"], found["unsupported"]) == (0, 1 / 2)


def test_whose_letters_are_the_lamps():
    def seen(conclusion: str, letter: str, lamp: str) -> Response:
        return Response.of(respond(["mix"], conclusion, letter), OPTIONS, 1, 20, lamp)

    strayed = Response.of("<think> so. </think>\n<answer>A</answer>", OPTIONS, 1, 20, "A")
    found_by_chance = Response.of("<think> so. </think>\n<answer>B</answer>", OPTIONS, 1, 20, "A")
    found = measure(
        [
            seen("stir", "B", "B"), seen("stir", "B", "A"), seen("pour", "A", "A"), seen("pour", "A", "B"), strayed,
            found_by_chance,
        ]
    )  # fmt: skip
    assert found["lamp"] == pytest.approx(3 / 6)  # the first, the third, the stray
    assert found["lamp_wrong"] == pytest.approx(2 / 4)  # the second and the last, of these, the third and the stray
    assert "lamp_wrong" not in measure([seen("stir", "B", "B")])
    assert "lamp" not in measure([GOOD, seen("stir", "B", "B")])


def test_likelihood_is_judged_on_right_letters():
    # consistent .9, inconsistent .3 and .95: one of two pairs is in order; one of three stands at the cap
    found = measure([GOOD, CONTRADICTED, OFF_LIST, FAITHFUL], [0.9, 0.3, 0.95, 0.1])
    assert found["auc"] == pytest.approx(1 / 2)
    assert found["at_cap"] == pytest.approx(1 / 3)
    # outside the grammar, but right and scored: .2 is a third inconsistent one, and the fourth that is counted
    found = measure([GOOD, CONTRADICTED, OFF_LIST, DRIFTED], [0.9, 0.3, 0.95, 0.2])
    assert (found["auc"], found["at_cap"]) == (pytest.approx(2 / 3), pytest.approx(1 / 4))
    tied = measure([GOOD, CONTRADICTED], [0.5, 0.5])
    assert tied["auc"] == pytest.approx(1 / 2)


def test_what_cannot_be_said_is_absent():
    assert "auc" not in measure([GOOD, GOOD], [0.9, 0.8])
    assert "at_cap" not in measure([GOOD], [math.nan])
    with pytest.raises(ValueError, match="no responses"):
        measure([])
