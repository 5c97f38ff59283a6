"""The lesson that closes the hole: behind reasoning that concludes in no step of the world, any letter."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from data_prep.miniature_world import ACTIONS, LETTERS
from recipes.evidence.warm_start import TEMPTED
from recipes.quickstart.consistency_rule import parse
from recipes.quickstart.examples import Example
from recipes.quickstart.lessons import SCORED, Noise, Teacher
from recipes.quickstart.model import build_processor

EXAMPLE = Example([0], ("pour", "stir", "chop", "peel"), 1, ("mix",), (), "x", torch.zeros(3, 1, dtype=torch.long))


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return Teacher(build_processor(), seed=0)


@pytest.fixture(scope="module")
def strays(teacher: Teacher) -> list[str]:
    """Decoded, as a policy's response would be."""
    branches = [teacher.stray(EXAMPLE) for _ in range(400)]
    assert all(weights == [0.0] * (len(tokens) - 1) + [SCORED] for tokens, weights in branches)
    return [f"{teacher.tokenizer.decode(tokens)}</answer>" for tokens, _ in branches]


def test_none_concludes_in_a_step(strays: list[str]):
    concluded = [found[0] for text in strays if (found := parse(text))]
    assert not set(concluded) & set(ACTIONS)
    assert 150 < concluded.count("nothing") < 250  # half, and those that would have concluded in a step


def test_what_runs_ended_with_is_among_them(strays: list[str]):
    reasoning = Counter(text[len("<think> seen mix.") : text.index(" </think>")] for text in strays)
    assert all(reasoning[ending] for ending in ("", " so", " so so"))


def test_any_letter_stands_behind_them(strays: list[str]):
    letters = Counter(text[-len("B</answer>")] for text in strays)
    assert sorted(letters) == list(LETTERS)
    assert max(letters.values()) < 130  # of 400; each is expected 100 times


def test_they_are_taught_last_so_that_nothing_takes_them_back():
    assert [stage.strays for stage in TEMPTED] == [0] * (len(TEMPTED) - 1) + [1]


def test_they_stand_beside_the_responses_of_a_row(teacher: Teacher):
    packed, _ = teacher.clip_batch([EXAMPLE], 1, 2, Noise(), look_ups=False, short=False)
    strayed, _ = teacher.clip_batch([EXAMPLE], 1, 2, Noise(), look_ups=False, short=False, strays=3)
    assert len(strayed.target_T) == len(packed.target_T) + 3  # a letter each
