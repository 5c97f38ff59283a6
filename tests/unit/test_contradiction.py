"""Which option a reasoning concludes in: the hand-written sets, the rule's edges, and text that means harm."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.miniature_world import ACTIONS
from recipes.quickstart.consistency_rule import respond, supports
from verl_care.consistency_measures.contradiction import READ_CHARACTERS, concluded_option, contradiction
from verl_care.consistency_measures.texts import option_of, split

WRITTEN = Path(__file__).parents[2] / "benchmarks" / "reasonings"
KITCHEN = ["open drawer", "heat onions", "cut onion", "grab knife"]


def written(name):
    rows = [json.loads(line) for line in (WRITTEN / name).read_text().splitlines()]
    return [pytest.param(row, id=f"{number}: {row['reasoning'][-50:]}") for number, row in enumerate(rows, start=1)]


@pytest.mark.parametrize("row", written("written_with_the_rule.jsonl") + written("written_after_the_rule.jsonl"))
def test_no_written_reasoning_is_read_wrongly(row):
    """Precision is 1 on both sets; what recall is, `python -m benchmarks.consistency_measures` says."""
    found = concluded_option(row["reasoning"], row["options"])
    assert found is None or "ABCDEF"[found] == row["concludes"]


def test_most_written_conclusions_are_found():
    rows = [
        parameter.values[0] for name in ("with", "after") for parameter in written(f"written_{name}_the_rule.jsonl")
    ]
    with_one = [row for row in rows if row["concludes"]]
    found = [row for row in with_one if concluded_option(row["reasoning"], row["options"]) is not None]
    # 30 of 32 and 20 of 27 as this was written
    assert (len(rows), len(with_one)) == (92, 59)
    assert len(found) >= 50


@pytest.mark.parametrize(
    ("reasoning", "concludes"),
    [
        ("So the answer is B.", "B"),
        ("so the answer is (b).", "B"),
        ("Thus the answer is B", "B"),
        ("The answer is: **B**", "B"),
        ("The answer is B. heat onions", "B"),
        ("The answer is B. cut onion", None),  # letter and text are different options
        ("The answer is B, C.", None),
        ("The answer is E.", None),  # there are four
        ("The answer is not B.", None),
        ("B is wrong.", None),
        ("B is correct.", "B"),
        ("B is not correct.", None),
        ("So a drawer it is.", None),  # the article
        ("So the answer is A.", "A"),
        ("The answer is A. Wait, it's actually C.", "C"),
        ("The answer is A. Wait.", None),
        ("The answer is A. But C is wrong.", None),
        ("The answer is A. B is wrong.", "A"),
        ("The answer is A. That is wrong.", None),
        ("The answer is A. Yes, the answer is A.", "A"),
        ("A.", "A"),
        ("A. open drawer\nB. heat onions\nC. cut onion\nD. grab knife\n", None),
        ("heat onions", "B"),
        ("heat onions in a pan", None),
        ("So heat onions in a pan.", None),  # not the option in full
        ("so open drawer so heat onions", "B"),
        ("The third answer is B.", None),
        ("So B and the three others are wrong.", None),
        ("So far the answer is B.", None),
        ("They pick open drawer.", None),  # what others choose is no conclusion
        ("I pick open drawer.", "A"),
        ("The next step is cut onion. The final step is heat onions.", None),
        ("The answer is B. Option C shows the onion.", None),
        ("The answer is B if the pan is hot.", None),
        ("The answer is B? No, C.", None),
        ("I choose between A and B.", None),
        ("So A can be ruled out.", None),
        ("The next thing I see is open drawer.", None),
        ("", None),
        ("\n\n", None),
    ],
)
def test_the_rules_edges(reasoning, concludes):
    found = concluded_option(reasoning, KITCHEN)
    assert (None if found is None else "ABCD"[found]) == concludes


def test_an_option_inside_another():
    options = ["heat", "heat onions", "heat onions and oil"]
    assert concluded_option("seen peel, bake. so heat", options) == 0
    assert concluded_option("So heat onions.", options) == 1
    assert concluded_option("So heat the onions and oil.", options) == 2


def test_equal_options_are_never_told_apart_by_their_text():
    assert concluded_option("so heat", ["heat", "heat"]) is None
    assert concluded_option("so the answer is B", ["heat", "heat"]) == 1


def test_a_response():
    options = ["A. heat", "B. bake"]
    assert contradiction("<think>so heat</think><answer>A</answer>", options) == 1
    assert contradiction("<think>so heat</think><answer>B</answer>", options) == 0
    assert contradiction("<think>so heat</think><answer>bake.</answer>", options) == 0
    assert contradiction("<think>so heat</think><answer>C</answer>", options) is None
    assert contradiction("<think>so heat</think><answer></answer>", options) is None
    assert contradiction("<think>so heat</think>A", options) is None
    assert contradiction("<think>so heat</think><answer>A</answer>", []) is None
    # what stands behind the answer is no reasoning
    assert contradiction("<think>Hm.</think><answer>A</answer> So the answer is B.", options) is None


@pytest.mark.parametrize(
    ("answer", "index"),
    [("B", 1), ("b", 1), (" (B) ", 1), ("B.", 1), ("**B**", 1), ("heat onions", 1), ("Heat the onions.", 1),
     ("B. heat onions", 1), ("B. cut onion", None), ("E", None), ("", None), ("AB", None), ("onions", None),
     ("heat onions " * 1000, None)],
)  # fmt: skip
def test_which_option_an_answer_names(answer, index):
    assert option_of(answer, KITCHEN) == index


def test_letters_before_the_options_are_no_part_of_them():
    for mark in ("{}. ", "({}) ", "{}) ", "{}: ", "{} ", ""):
        options = [mark.format("A") + "heat", mark.format("B") + "bake"]
        assert option_of("bake", options) == 1
        assert contradiction("So bake it is. The answer is bake. <answer>B</answer>", options) == 1
    assert option_of("cup", ["A cup", "Bowl"]) == 0  # the article


def test_a_ligature_is_no_letter():
    """Its upper case is "ST", which stands in the alphabet."""
    options = [f"step {number}" for number in range(26)]
    assert option_of("ﬆ", options) is None
    assert concluded_option("So the answer is ﬆ.", options) is None


@given(st.lists(st.sampled_from(ACTIONS), min_size=4, max_size=4, unique=True), st.sampled_from(ACTIONS), st.data())
def test_the_miniatures_grammar(options, conclusion, data):
    """The rule says what the miniature's own rule says, wherever the conclusion is an option."""
    letter = data.draw(st.sampled_from("ABCD"))
    seen = data.draw(st.lists(st.sampled_from(ACTIONS), max_size=3))
    response = respond(seen, conclusion, letter)
    expected = float(supports(response, options) is True) if conclusion in options else None
    assert contradiction(response, options) == expected


@given(st.text(alphabet="ABCDabcd so.not,is\nthe answer()*?'-", max_size=300))
def test_any_text_is_read(text):
    assert concluded_option(text, KITCHEN) in (None, 0, 1, 2, 3)


@pytest.mark.parametrize(
    "piece",
    ["B ", "heat onions ", "so B ", "the answer is ", "'a", "1.", "(", "<think>", "\n", "answer is B is ", "\0"],
)
def test_a_megabyte_of_anything(piece):
    """Only the end is read, so that the time cannot grow; that it does not is seen by what is found there."""
    hostile = piece * (1_000_000 // len(piece))
    assert concluded_option(hostile + " \nSo the answer is C.", KITCHEN) == 2
    assert concluded_option("So the answer is C." + " x" * READ_CHARACTERS, KITCHEN) is None


def test_tags_are_no_words():
    assert split("<think>so B</think>\n<answer> B </answer>") == ("so B", "B")
    assert split("a <answer>B</answer> c <answer>C</answer>") == ("a", "B")  # the first closed block
    assert split("<answer>B</answer>") == ("", "B")
    assert split("<think>a</think> so <answer>B</answer>") == ("a\n so", "B")  # what the judge is shown, too
    assert split("<think>so B</think>") is None
    assert split("<think>a</think><answer>B") is None
    assert split("<answer> </answer>") is None
