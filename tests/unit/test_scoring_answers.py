"""What a response answers: to the letter, and generously."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.evaluated import OPTIONS, a_row, answered
from verl_care.evaluation.scoring.answers import bare_truth, exact_answer
from verl_care.evaluation.scoring.lenient import lenient_number, option_letter, place_of
from verl_care.evaluation.scoring.rules import Rules, read_response

MEGABYTE = 1_000_000


@pytest.mark.parametrize(
    ("response", "whole", "answer"),
    [
        ("<think>x</think><answer> B </answer>", True, "B"),
        ("<answer>A</answer><answer>B</answer>", True, "A"),  # the first closed block
        (" B\n", True, "B"),  # the release takes the whole response where there is no block
        (" B\n", False, None),
        ("<answer> </answer>", True, "<answer> </answer>"),  # an empty block is none
        ("<answer> </answer>", False, None),
        ("<answer>B", True, "<answer>B"),
        ("", True, None),
    ],
)
def test_exact(response, whole, answer):
    assert exact_answer(response, whole) == answer


def test_a_truth_may_stand_in_tags():
    assert bare_truth(" B ") == bare_truth("<answer>B</answer>") == "B"


@pytest.mark.parametrize(
    ("inside", "letter"),
    [
        ("B", "B"),
        ("b", "B"),
        ("B.", "B"),
        ("(B)", "B"),
        ("B)", "B"),
        ("[B]", "B"),
        ("**B**", "B"),
        ("（Ｂ）", "B"),  # full width
        ("B. grab knife", "B"),
        ("B: grab knife", "B"),
        ("B grab knife", "B"),
        ("(B) grab knife", "B"),
        ("B, because the drawer is open", "B"),
        ("grab knife", "B"),
        ("Grab  knife.", "B"),
        (r"\boxed{B}", "B"),
        (r"$\boxed{\text{B}}$", "B"),
        (r"\boxed{grab knife}", "B"),
        ("Answer: B", "B"),
        ("The answer is B", "B"),
        ("The correct answer is (B) grab knife.", "B"),
        ("The answer is option B, not A", "B"),
        ("Option B", "B"),
        ("I think it is B", "B"),
        ("A drawer should be opened: C", "C"),  # "A drawer" is an article
        # Two answers, or none:
        ("A or B", None),
        ("A, B", None),
        ("Answer: A or B", None),
        ("not B", None),
        ("The answer is not B", None),
        ("B. wash onion", None),  # the letter of one, the words of another
        ("E", None),  # no such option
        ("knife", None),
        ("?", None),
        ("N/A", None),
        ("None of the above", None),
        ("A/B", None),
    ],
)
def test_a_letter_in_a_block(inside, letter):
    assert option_letter(answered(inside), OPTIONS) == letter


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("<think>A is open. B?</think><answer>B", "B"),  # never closed
        ("<think>A is open.</think> B", "B"),
        ("<think>A is open.</think>\nThe answer is B because the knife is needed.", "B"),
        ("Option A is wrong. The answer is B.", "B"),
        ("Therefore the best choice is option B.", "B"),
        ("The answer to the question is B", "B"),
        ("The answer is A. Wait. The answer is C.", "C"),  # the last word counts
        ("Let me see.\nB. grab knife", "B"),
        (r"So it is \boxed{B}, since the drawer is open", "B"),
        ("<think>A", None),  # cut off while reasoning
        ("Option A is wrong and B is not", None),
        ("The drawer is open, so I would grab the knife", None),
        ("The answer is A drawer", None),
        ("", None),
    ],
)
def test_a_letter_elsewhere(response, letter):
    assert option_letter(response, OPTIONS) == letter


def test_two_options_of_one_text_are_told_by_letter_alone():
    options = ("A. left", "B. left", "C. right")
    assert option_letter(answered("left"), options) is None
    assert option_letter(answered("B"), options) == "B"
    assert option_letter(answered("right"), options) == "C"


@pytest.mark.parametrize("mark", ["{}. ", "({}) ", "{}) ", "{}: ", "{} "])
def test_options_carry_their_letters_in_any_way(mark):
    options = tuple(mark.format(letter) + text for letter, text in zip("AB", ("wash onion", "grab knife"), strict=True))
    assert option_letter(answered("grab knife"), options) == "B"
    assert option_letter(answered("B. grab knife"), options) == "B"
    assert option_letter(answered("B. wash onion"), options) is None


def test_without_options_every_letter_is_one():
    assert option_letter(answered("(G)"), ()) == "G"


@pytest.mark.parametrize(
    ("inside", "number"),
    [
        ("42", 42.0),
        ("1,250", 1250.0),
        ("42 meters", 42.0),
        ("about 3.5m", 3.5),
        ("$1,250.50", 1250.5),
        ("−3", -3.0),
        (".5", 0.5),
        ("50%", 50.0),
        ("1e3 cm", 1000.0),
        ("25 m^2", 25.0),
        ("10 m2", 10.0),
        (r"\boxed{42}", 42.0),
        ("The answer is 42 chairs", 42.0),
        ("There are 2 rooms. Answer: 5", 5.0),
        ("three chairs", 3.0),
        ("4 or four", 4.0),
        # Two numbers, or none:
        ("2-3", None),
        ("1/2", None),
        ("between 2 and 3", None),
        ("many", None),
        ("one hundred", None),
        ("twenty-one", None),
        ("3 and a half", None),
        ("inf", None),
        ("1e999", None),
    ],
)
def test_a_number_in_a_block(inside, number):
    assert lenient_number(answered(inside)) == number


def test_a_number_elsewhere():
    assert lenient_number("<think>2 here, 3 there</think>\nThe answer is 5.") == 5.0
    assert lenient_number("2 here, 3 there\n5 chairs") == 5.0
    assert lenient_number("<think>2 here, 3 there, so") is None


def test_the_place():
    assert place_of("<think>a</think><answer>b</answer>c") == ("b", True)
    assert place_of("<answer></answer> c") == ("<answer></answer> c", False)
    assert place_of("<answer>a") == ("a", True)
    assert place_of("a</think> b ") == ("b", False)
    assert place_of("a</think> ") == ("a</think>", False)


PIECES = [
    "<think>",
    "</think>",
    "<answer>",
    "</answer>",
    "answer is ",
    "\\boxed{",
    "}",
    " ",
    "\n",
    "A",
    "B",
    "2",
    "3.0",
]
texts = st.one_of(st.text(), st.lists(st.sampled_from([*PIECES, ".", ",", "(", ")", "grab knife"])).map("".join))


@settings(deadline=None)  # the first call imports graders
@given(
    texts, st.sampled_from([("multiple choice", "A"), ("numerical", "3"), ("numerical", "3.0"), ("regression", "2")])
)
def test_lenient_is_never_below_exact(response, asked):
    kind, truth = asked
    for rules in (Rules(), Rules(no_block="wrong")):
        found = read_response(a_row("1", response, truth, problem_type=kind), rules)
        assert 0 <= found.exact.score <= found.lenient.score <= 1


@settings(deadline=None)  # the first call imports graders
@given(texts, st.sampled_from(["OCR", "free-form"]))
def test_open_answers_too(response, kind):
    found = read_response(a_row("1", response, "grab knife", problem_type=kind), Rules(open_answers="graded"))
    assert 0 <= found.exact.score <= found.lenient.score <= 1


LONG = {
    "open tags": "<answer>" * (MEGABYTE // 8),
    "empty blocks": "<answer></answer>" * (MEGABYTE // 17),
    "thoughts": "</think>" * (MEGABYTE // 8),
    "boxes": "\\boxed{" * (MEGABYTE // 7),
    "announcements": "answer is " * (MEGABYTE // 10),
    "answers": "the answer is option (B), " * (MEGABYTE // 26),
    "letters": "A or B, " * (MEGABYTE // 8),
    "digits": "1" * MEGABYTE,
    "thousands": "1,111" * (MEGABYTE // 5),
    "points": "." * MEGABYTE,
    "blanks": " " * MEGABYTE,
    "lines": "\n" * MEGABYTE,
    "accents": "e" + "\u0301\u0323" * (MEGABYTE // 4),  # sorting them is quadratic in Unicode's normal forms
    "ligatures": "\ufdfa" * (MEGABYTE // 3),  # one becomes eighteen in NFKC
}


@pytest.mark.parametrize("name", LONG)
def test_a_megabyte_takes_linear_time(name):
    """Anything quadratic would be 10^12 steps, far past the time limit of a test; benchmarks/ holds the times."""
    for response in (LONG[name], answered(LONG[name]), f"<answer>{LONG[name]}", f"</think>{LONG[name]}"):
        assert option_letter(response, OPTIONS) in (None, "A", "B")
        number = lenient_number(response)
        assert number is None or number >= 1
    assert option_letter(answered("B"), (LONG[name], LONG[name])) == "B"
