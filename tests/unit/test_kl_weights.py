"""Expected numbers are worked by hand, the arithmetic is in the comments."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from verl_care.ablations.kl_weights import kl_weights


def lists(*arguments, **options):
    return [weight_T.tolist() for weight_T in kl_weights(*arguments, **options)]


def test_joint_on_all_is_verls_own():
    assert lists([2, 3], [(0, 1), None], [True, False]) == [[1, 1], [1, 1, 1]]


def test_accurate_ones_only():
    assert lists([2, 1], [(0, 1), None], [True, False], on="accurate") == [[1, 1], [0]]


def test_reasoning_and_answer_apart():
    # T = 8, reasoning 5 tokens: 8/5 = 1.6; answer 2 tokens: 8/2 = 4; one token behind it: 0
    (weights,) = lists([8], [(5, 7)], [True], parts="separate")
    assert weights == pytest.approx([1.6] * 5 + [4] * 2 + [0])
    # KL 0.1 at each reasoning token, 0.3 and 0.5 at the answer's: mean 0.1 + mean 0.4 = 0.5
    kl = [0.1] * 5 + [0.3, 0.5, 9.0]
    assert sum(w * k for w, k in zip(weights, kl, strict=True)) / 8 == pytest.approx(0.5)


def test_without_an_answer_all_is_reasoning():
    assert lists([3], [None], [True], parts="separate") == [[1, 1, 1]]


def test_without_reasoning_only_the_answer_counts():
    assert lists([4], [(0, 2)], [True], parts="separate") == [[2, 2, 0, 0]]  # 4/2 = 2


def test_both():
    spans = [(1, 2), (1, 2)]
    assert lists([2, 2], spans, [False, True], on="accurate", parts="separate") == [[0, 0], [2, 2]]


@given(st.data())
def test_separate_is_the_sum_of_two_means(data):
    length = data.draw(st.integers(2, 30))
    start = data.draw(st.integers(1, length - 1))
    stop = data.draw(st.integers(start + 1, length))
    kl_T = torch.rand(length, generator=torch.Generator().manual_seed(data.draw(st.integers(0, 99))))
    (weight_T,) = kl_weights([length], [(start, stop)], [True], parts="separate")
    expected = kl_T[:start].mean() + kl_T[start:stop].mean()
    torch.testing.assert_close((weight_T * kl_T).mean(), expected)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([1], [None], [True]), {"on": "some"}, "'some'"),
        (([1], [None], [True]), {"parts": "thrice"}, "'thrice'"),
        (([1], [None], [True, False]), {}, "shorter|longer"),
        (([3], [(2, 4)], [True]), {}, r"\(2, 4\) does not lie within a response of 3"),
        (([3], [(2, 2)], [True]), {}, r"\(2, 2\)"),
    ],
)
def test_refusals(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        kl_weights(*arguments, **options)
