"""Calibration and its quality, by numbers worked out by hand."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from verl_care.consistency_measures.calibration import (
    Calibration,
    auc,
    cross_fitted,
    expected_calibration_error,
    fit,
    reliability,
)


def test_pool_adjacent_violators():
    # 0, 1, 0, 1: the middle pair falls, so it is pooled to (1 + 0)/2; 0 <= 0.5 <= 1 rises
    calibration = fit([0.1, 0.2, 0.3, 0.4], [0, 1, 0, 1], "judge")
    assert calibration == Calibration((0.1, 0.2, 0.3, 0.4), (0.0, 0.5, 0.5, 1.0), "judge", 4)
    # between knots linear, outside constant: halfway from 0.1 to 0.2 is halfway from 0 to 0.5
    assert calibration([0.0, 0.15, 0.25, 1.0]).tolist() == pytest.approx([0, 0.25, 0.5, 1])
    assert math.isnan(calibration([math.nan])[0])


def test_equal_likelihoods_have_one_value_with_their_weight():
    # at 0.5: (1 + 1 + 0)/3; at 0.9: 0. They fall, so all are pooled: (1 + 1 + 0 + 0)/4
    assert fit([0.5, 0.5, 0.5, 0.9], [1, 1, 0, 0], "x").probability_K == pytest.approx((0.5, 0.5))
    # one likelihood, one knot
    assert fit([0.5, 0.5], [1, 0], "x") == Calibration((0.5,), (0.5,), "x", 2)


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1)), min_size=1, max_size=40))
def test_a_fit_is_monotone_and_keeps_the_mean(pairs):
    x_N, y_N = np.array(pairs).T
    calibrated_N = fit(x_N, y_N, "x")(x_N)
    assert (np.diff(calibrated_N[np.argsort(x_N)]) >= -1e-9).all()
    assert calibrated_N.mean() == pytest.approx(y_N.mean())  # a property of isotonic regression


def test_no_label_judges_itself():
    # each half is calibrated on the other one: with folds of one response, on the response beside it
    assert sorted(cross_fitted([0.2, 0.8], [0, 1], folds=2).tolist()) == [0, 1]
    assert cross_fitted([0.2, 0.8], [0, 1], folds=2).tolist() == [1, 0]


def test_auc():
    # consistent 0.35, 0.8 against 0.1, 0.4: 0.35 > 0.1, 0.8 > 0.1, 0.8 > 0.4, not 0.35 > 0.4: 3 of 4
    assert auc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]) == pytest.approx(0.75)
    assert auc([0.5, 0.5], [0, 1]) == 0.5
    assert math.isnan(auc([0.5], [1]))


def test_reliability_and_its_error():
    curve = reliability([0.1, 0.14, 0.95, 1.0], [0, 1, 1, 1])
    assert [(part.low, part.count, part.observed) for part in curve] == [(0.1, 2, 0.5), (0.9, 2, 1.0)]
    # (2 * |0.12 - 0.5| + 2 * |0.975 - 1|) / 4 = (0.76 + 0.05) / 4
    assert expected_calibration_error(curve) == pytest.approx(0.2025)
    assert math.isnan(expected_calibration_error([]))


def test_a_calibration_is_a_file(tmp_path):
    path, calibration = tmp_path / "new" / "c.json", Calibration((0.1, 0.9), (0.2, 0.7), "judge-x", 12)
    calibration.save(path)
    assert Calibration.load(path) == calibration
    assert json.loads(path.read_text())["source"] == "judge-x"


@pytest.mark.parametrize(
    "content",
    [
        "{}",
        "[1]",
        "no json",
        '{"likelihood_K": [0.9, 0.1], "probability_K": [0.2, 0.7], "source": "x", "labelled": 1}',
        '{"likelihood_K": [0.1, 0.9], "probability_K": [0.7, 0.2], "source": "x", "labelled": 1}',
        '{"likelihood_K": [0.1, 0.9], "probability_K": [0.2], "source": "x", "labelled": 1}',
        '{"likelihood_K": [0.1, 0.9], "probability_K": [0.2, 1.7], "source": "x", "labelled": 1}',
        '{"likelihood_K": [0.1, NaN], "probability_K": [0.2, 0.7], "source": "x", "labelled": 1}',
    ],
)
def test_what_is_no_calibration(tmp_path, content):
    (tmp_path / "c.json").write_text(content)
    with pytest.raises(ValueError, match="is no calibration"):
        Calibration.load(tmp_path / "c.json")


@pytest.mark.parametrize(
    ("x", "y", "reason"),
    [
        ([], [], "nothing to calibrate on"),
        ([0.1], [0.5], "neither 0 nor 1"),
        ([math.nan], [1], "is NaN"),
        ([0.1, 0.2], [1], "one number and one label"),
    ],
)
def test_what_cannot_be_fitted(x, y, reason):
    with pytest.raises(ValueError, match=reason):
        fit(x, y, "x")
