"""Which tokens a recorded text was sampled as."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from transformers import AutoTokenizer

from recipes.evidence.replay import spelling
from recipes.quickstart.stages import CHECKPOINT

A, B, AB, BB, BYTE, SILENT, END = range(7)
PIECES = {A: b"a", B: b"b", AB: b"ab", BB: b"bb", BYTE: b"\xff"}


def always(**probabilities: float) -> spelling.LogProbs:
    """The same distribution behind every beginning."""
    names = ("a", "b", "ab", "bb", "byte", "silent", "end")
    log_prob_V = torch.tensor([math.log(probabilities.get(name, 0.01)) for name in names])

    def log_probs(beginnings: Sequence[Sequence[int]]) -> Tensor:
        assert beginnings  # a model is asked about something
        return log_prob_V.repeat(len(beginnings), 1)

    return log_probs


@pytest.mark.parametrize(
    ("text", "length", "end", "expected"),
    [
        ("ab", 2, END, [AB, END]),
        ("ab", 3, END, [A, B, END]),
        ("ab", 2, None, [A, B]),
        ("a\N{REPLACEMENT CHARACTER}", 3, END, [A, BYTE, END]),
        ("abbb", 2, END, None),  # one token cannot write four letters
        ("a", 1, END, None),
        ("acb", 4, END, None),  # nothing writes a c
    ],
)
def test_a_text_of_so_many_tokens(text: str, length: int, end: int | None, expected: list[int] | None):
    assert spelling.likeliest(always(), PIECES, text, length, end, [SILENT]) == expected


def test_of_two_spellings_of_a_length_the_likelier():
    assert spelling.likeliest(always(ab=0.3, b=0.3), PIECES, "abb", 3, END) == [AB, B, END]  # .09 against .0001
    assert spelling.likeliest(always(a=0.3, bb=0.3), PIECES, "abb", 3, END) == [A, BB, END]


def test_a_token_that_is_not_shown_is_found_by_the_length():
    found = spelling.likeliest(always(), PIECES, "a", 3, END, [SILENT])
    assert found is not None
    assert sorted(found) == [A, SILENT, END]


def test_the_bytes_of_a_tokenizers_tokens_are_its_text():
    text, tokenizer = "<think> seen café, \x00. so stir </think>\n", AutoTokenizer.from_pretrained(CHECKPOINT)
    pieces, tokens = spelling.pieces_of(tokenizer), tokenizer(text)["input_ids"]
    assert b"".join(pieces[token] for token in tokens).decode() == text
    assert not set(pieces) & set(tokenizer.all_special_ids)
