"""Intervals, the sign test, and k samples: against closed forms and numbers worked by hand."""

from __future__ import annotations

from itertools import combinations
from math import comb, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from verl_care.evaluation.scoring import intervals
from verl_care.evaluation.scoring.intervals import Bootstrap, mean, mean_of_strata, ratio, ratio_replicates, sign_test
from verl_care.evaluation.scoring.samples import best_of, best_weights, majority, question_means

HOW = Bootstrap(resamples=20_000)


def test_the_bootstrap_of_a_share_is_the_binomial():
    # 60 of 100 right: a resample's count is Binomial(100, 0.6), standard deviation sqrt(100 * .6 * .4) = 4.899.
    replicates = ratio_replicates(np.repeat([0.0, 1.0], [40, 60]), np.ones(100), HOW)
    assert replicates.mean() == pytest.approx(0.6, abs=0.002)
    assert replicates.std() == pytest.approx(0.04899, rel=0.03)
    found = mean(np.repeat([0.0, 1.0], [40, 60]), HOW)
    assert found.mean == 0.6
    assert (found.low, found.high) == pytest.approx(binom.ppf([0.025, 0.975], 100, 0.6) / 100, abs=0.0101)


def test_many_different_values_are_drawn_by_index_alike(monkeypatch):
    value_Q = np.random.default_rng(1).normal(size=1500)
    by_index = ratio_replicates(value_Q, np.ones(1500), HOW)
    assert by_index.std() == pytest.approx(value_Q.std() / sqrt(1500), rel=0.03)
    monkeypatch.setattr(intervals, "_MANY", 2000)
    by_count = ratio_replicates(value_Q, np.ones(1500), Bootstrap(resamples=2000))
    assert by_count.std() == pytest.approx(by_index.std(), rel=0.06)
    assert by_count.mean() == pytest.approx(by_index.mean(), abs=0.003)


def test_samples_of_one_question_are_not_many_questions():
    # 10 questions of 10 equal samples, half right: as sure as 10 questions (.158), not as 100 (.05).
    right, samples = np.repeat([0.0, 10.0], 5), np.full(10, 10.0)
    assert ratio_replicates(right, samples, HOW).std() == pytest.approx(sqrt(0.25 / 10), rel=0.03)
    assert ratio(right, samples, HOW).mean == 0.5


def test_a_ratio_whose_resample_is_empty_is_left_out():
    # One of two questions has known values: a quarter of the resamples draw the other one twice.
    replicates = ratio_replicates(np.array([1.0, 0.0]), np.array([2.0, 0.0]), HOW)
    assert np.isnan(replicates).mean() == pytest.approx(0.25, abs=0.02)
    found = ratio(np.array([1.0, 0.0]), np.array([2.0, 0.0]), HOW)
    assert (found.mean, found.low, found.high) == (0.5, 0.5, 0.5)


@given(st.lists(st.sampled_from([0.0, 0.1, 0.5, 1.0]), min_size=1, max_size=30), st.randoms())
@settings(deadline=None, max_examples=30)
def test_an_interval_is_within_bounds_and_knows_no_order(values, random):
    how = Bootstrap(resamples=200)
    found = mean(np.array(values), how)
    assert 0 <= found.low <= found.high <= 1
    random.shuffle(values)
    again = mean(np.array(values), how)
    assert (again.low, again.high) == (found.low, found.high)
    assert again.mean == pytest.approx(found.mean)


def test_a_seed_decides():
    values = np.repeat([0.0, 1.0], 50)
    draws = [ratio_replicates(values, np.ones(100), Bootstrap(resamples=100, seed=seed)) for seed in (0, 0, 1)]
    assert (draws[0] == draws[1]).all()
    assert (draws[0] != draws[2]).any()


def test_strata_are_means_of_means():
    # Types: .5, and the mean of parts 1 and 0, .5: overall .5 whatever their sizes. Variance: (.25/100 + 0) / 4.
    half, ones, zeros = np.repeat([0.0, 1.0], 50), np.ones(3), np.zeros(7)
    found = mean_of_strata([[half], [ones, zeros]], HOW)
    assert found.mean == 0.5
    assert found.high - found.low == pytest.approx(2 * 1.96 * sqrt(0.0025 / 4), rel=0.06)


def test_equal_strata_are_drawn_apart():
    # Two alike types: standard deviation of the mean is .05 / sqrt(2) if drawn apart, .05 if drawn together.
    half = np.repeat([0.0, 1.0], 50)
    found = mean_of_strata([[half], [half]], HOW)
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.05 / sqrt(2), rel=0.06)


@pytest.mark.parametrize(
    ("wins", "losses", "p"),
    [
        (0, 0, 1.0),
        (0, 3, 2 / 8),  # 2 * C(3,0) / 2^3
        (5, 1, 14 / 64),  # 2 * (C(6,0) + C(6,1)) / 2^6
        (1, 5, 14 / 64),
        (4, 4, 1.0),
        (10, 2, 158 / 4096),  # 2 * (1 + 12 + 66) / 2^12
    ],
)
def test_sign_test(wins, losses, p):
    assert sign_test(wins, losses) == pytest.approx(p)


# k samples


@pytest.mark.parametrize(
    ("samples", "right", "k"), [(4, 2, 2), (4, 1, 3), (8, 3, 4), (5, 5, 1), (5, 0, 5), (200, 7, 64)]
)
def test_pass_at_k_is_the_published_estimate(samples, right, k):
    # (4, 2, 2): 1 - C(2,2) / C(4,2) = 5/6
    score_N = np.repeat([0.0, 1.0], [samples - right, right])
    expected = 1 - comb(samples - right, k) / comb(samples, k)
    assert best_of(score_N, np.zeros(samples, dtype=int), k) == pytest.approx([expected])


@given(st.lists(st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0]), min_size=1, max_size=7), st.data())
@settings(deadline=None)
def test_pass_at_k_is_the_mean_best_of_all_draws(scores, data):
    k = data.draw(st.integers(1, len(scores)))
    draws = [max(draw) for draw in combinations(scores, k)]
    found = best_of(np.array(scores), np.zeros(len(scores), dtype=int), k)
    assert found == pytest.approx([sum(draws) / len(draws)])
    assert best_weights(len(scores), k).sum() == pytest.approx(1)


def test_questions_with_fewer_samples_are_left_out_of_pass_at_k():
    score_N, question_N = np.array([1.0, 0.0, 0.0, 0.0, 1.0]), np.array([0, 1, 0, 0, 1])
    assert best_of(score_N, question_N, 2) == pytest.approx([2 / 3, 1.0])  # 1 - C(2,2) / C(3,2); 1 - 0
    assert best_of(score_N, question_N, 3) == pytest.approx([1.0])
    assert question_means(score_N, question_N) == pytest.approx([1 / 3, 0.5])


@pytest.mark.parametrize(
    ("answers", "scores", "expected"),
    [
        (["A", "A", "B"], [1, 1, 0], 1.0),
        (["A", "B", "B"], [1, 0, 0], 0.0),
        (["A", "B"], [1, 0], 0.5),  # a tie: what drawing one of them gives
        (["A", "B", "C"], [1, 0, 0], 1 / 3),
        (["A", None, None], [1, 0, 0], 1.0),  # no answer, no vote
        ([None, None], [0, 0], 0.0),
        ([7.0, 7.0, 9.0], [0.8, 0.8, 0.3], 0.8),
    ],
)
def test_majority(answers, scores, expected):
    assert majority(np.array(scores, dtype=float), answers, np.zeros(len(scores), dtype=int)) == pytest.approx(
        [expected]
    )


def test_majority_keeps_questions_apart():
    answers = ["A", "B", "B", "A", "B", "A"]
    score_N, question_N = np.array([1.0, 0, 1, 1, 1, 1]), np.array([0, 0, 1, 0, 1, 1])
    assert majority(score_N, answers, question_N) == pytest.approx([1.0, 1.0])  # A of A B A; B of B B A
