"""Spans are worked by hand from the tokens; the random tokenizations are checked against the text."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from verl_care.algorithm.spans import answer_block, answer_span, span_mask
from verl_care.rewards.grading import extract_answer

THOUGHT = ["<think>", "so", "</think>"]


def covered(tokens: list[str]) -> list[str] | None:
    span = answer_span(tokens)
    return None if span is None else tokens[slice(*span)]


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        # the ways of Qwen's tokenizer, with the tokens the release scores
        (["<", "answer", ">A", "</", "answer", ">"], [">A"]),
        (["<", "answer", ">", " A", " </", "answer", ">"], [">", " A"]),
        (["<", "answer", ">", "3", ".", "1", "4", "</", "answer", ">"], [">", "3", ".", "1", "4"]),
        (["think", "><", "answer", ">A", "</", "answer", ">\n", "<|im_end|>"], [">A"]),
        (["<", "answer", ">p", "icks", " up", "</", "answer", ">"], [">p", "icks", " up"]),
        # other ways
        (["<answer>", "A", "</answer>"], ["A"]),
        (["<answer>", "\n", "A", "\n", "</answer>"], ["\n", "A", "\n"]),
        (["<answer>\n", "A", "\n</answer>"], ["A"]),
        (["<answer", ">", "A", "</answer>"], [">", "A"]),
        (["<answer", ">\n", "A", "\n</", "answer>"], [">\n", "A"]),
        (["<answer>A", "</answer>"], ["<answer>A"]),
        (["<", "answer", ">A</", "answer", ">"], [">A</"]),
        (["<answer>", "A", " B</", "answer", ">"], ["A", " B</"]),
        (["<answer>A</answer>"], ["<answer>A</answer>"]),
        (["x<an", "swer>", " ", "A", " ", "</ans", "wer>x"], [" ", "A", " "]),
        (list("<answer>A</answer>"), [">", "A"]),
        (["<", "answer", ">", "<b>", "</", "answer", ">"], [">", "<b>"]),
        # pieces of a character, and tokens that decode to nothing
        (["<", "answer", ">", "\ufffd", "\ufffd", "</", "answer", ">"], [">", "\ufffd", "\ufffd"]),
        (["", "<", "", "answer", "", ">A", "</", "", "answer", ">", ""], [">A"]),
        (["<answer>", "", "A", "</answer>"], ["", "A"]),
    ],
)
def test_span(tokens, expected):
    assert covered(tokens) == expected
    assert covered(THOUGHT + tokens) == expected


@pytest.mark.parametrize(
    "tokens",
    [
        [],
        [""],
        ["no", " answer"],
        ["<", "answer", ">A"],
        ["</", "answer", ">"],
        ["<", "answer", "></", "answer", ">"],
        ["<", "answer", ">", " \n", "</", "answer", ">"],
        ["<answer>", "</answer>", "<answer>", "A", "</answer>"],
    ],
)
def test_no_span(tokens):
    assert answer_span(tokens) is None


def test_the_first_closed_block_is_scored_as_it_is_judged():
    first = ["<", "answer", ">A", "</", "answer", ">"]
    second = ["<", "answer", ">B", "</", "answer", ">"]
    assert covered([*first, " wait", *second]) == [">A"]
    assert covered([*first, " wait", *second[:3]]) == [">A"]
    assert covered(["<think>", *first, " so", "</think>", "<|im_end|>"]) == [">A"]


PIECES = ["<", "answer", ">", "</", "<answer>", "</answer>", " ", "\n", "A", "7", ">A", "A</", "", "\ufffd", "><"]


@settings(max_examples=1000)
@given(st.lists(st.sampled_from(PIECES), max_size=16))
def test_a_span_is_what_holds_the_judged_answer_or_lies_between_the_tags(tokens):
    text = "".join(tokens)
    answer, block, span = extract_answer(text), answer_block(text), answer_span(tokens)
    assert (span is not None) == bool(answer)
    if not answer or block is None or span is None:
        return
    answer_start = text.index(answer, block[0])
    expected, stop = [], 0
    for number, token in enumerate(tokens):
        start, stop = stop, stop + len(token)
        between = block[0] - 1 <= start and stop <= block[1]  # the bracket of `<answer>` counts as between
        holds = start < answer_start + len(answer) and stop > answer_start
        if token and (between or holds):
            expected.append(number)
    assert [number for number in range(*span) if tokens[number]] == expected


@given(st.data())
def test_any_tokenization_gives_the_same_answer(data):
    text = "<think>so</think>\n<answer> 3.14 </answer> done"
    cuts = sorted(data.draw(st.sets(st.integers(1, len(text) - 1))))
    tokens = [text[i:j] for i, j in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert "3.14" in "".join(covered(tokens) or [])


def test_a_million_tokens():
    """Quadratic time would be 10^12 steps, far past the time limit of a test."""
    assert answer_span(["<answer>"] * 1_000_000) is None
    assert answer_span([*["<answer>"] * 500_000, "A", *["</answer>"] * 500_000]) == (1, 500_001)


def test_mask():
    mask_NT = span_mask([(1, 3), None, (0, 4)], length=4)
    assert mask_NT.dtype == torch.bool
    assert mask_NT.tolist() == [[False, True, True, False], [False] * 4, [True] * 4]
    assert span_mask([], length=4).shape == (0, 4)


@pytest.mark.parametrize("span", [(0, 5), (-1, 2), (2, 2), (3, 1)])
def test_mask_refuses_a_span_that_does_not_fit(span):
    with pytest.raises(ValueError, match=r"spans\[1\].*4 tokens"):
        span_mask([None, span], length=4)
