"""The answer given again: what is asked, how it is read, when two answers are the same."""

import pytest

from verl_care.consistency_measures.agreement import agreement, answer_again, asked_text, up_to_answer

OPTIONS = ["heat", "bake", "peel"]


def test_what_is_asked():
    assert asked_text("What next?", OPTIONS[:2], "multiple choice", "plain") == "What next?Options:\nheat\nbake\n"
    assert "single option letter" in asked_text("What next?", OPTIONS, "multiple choice", "released")
    assert asked_text("How many?", [], "numerical", "plain") == "How many?"


def test_the_prompt_ends_where_the_answer_begins():
    assert up_to_answer("<think>so heat</think>\n<answer>A</answer>") == "<think>so heat</think>\n<answer"
    assert up_to_answer("<think>so heat</think>\n<answer>A") is None


@pytest.mark.parametrize(
    ("continuation", "answer"),
    [(">A</answer>", "A"), (">A", "A"), ("> A </answer> B", "A"), (">", None), ("", None), ("></answer>", None),
     ("A</answer>", "A"), (">x > 1</answer>", "x > 1")],
)  # fmt: skip
def test_how_it_is_read(continuation, answer):
    assert answer_again(continuation) == answer


@pytest.mark.parametrize(
    ("first", "second", "options", "value"),
    [
        ("A", "A", OPTIONS, 1.0),
        ("A", "heat", OPTIONS, 1.0),
        ("A", "B", OPTIONS, 0.0),
        ("A", "D", OPTIONS, None),  # names no option
        ("D", "A", OPTIONS, None),
        ("A", None, OPTIONS, None),
        ("3.0", "3", [], 1.0),
        ("3", "4", [], 0.0),
        ("The red car", "red car.", [], 1.0),
        ("!", "?", [], 0.0),  # no words are no agreement
    ],
)
def test_when_answers_agree(first, second, options, value):
    assert agreement(first, second, options) == value
