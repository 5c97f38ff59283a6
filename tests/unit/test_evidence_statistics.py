"""What a mean over seeds and a difference of pairs are worth, by hand, and how they are written."""

from __future__ import annotations

import math

import pytest

from recipes.evidence.table import markdown
from recipes.evidence.table.statistics import Estimate, estimate, paired, ranks, seeds_to_resolve


def test_how_many_seeds_would_tell():
    # s = .26: t(.975, 7) = 2.365 x .26 / sqrt(8) = .2174, above .213; t(.975, 8) = 2.306 x .26 / 3 = .1999, below
    value = Estimate(0.213, 0.26 / math.sqrt(5), 5)
    assert seeds_to_resolve(value) == seeds_to_resolve(value._replace(mean=-0.213)) == 9
    assert seeds_to_resolve(estimate([0.2, 0.2])) == 2  # no spread at all
    assert seeds_to_resolve(estimate([0.2])) is None
    assert seeds_to_resolve(estimate([0.1, -0.1])) is None  # a mean of zero is never told from it


def test_the_interval_of_three_pairs():
    # differences .1, .2, .6: mean .3, squares .04 + .01 + .09 = .14, s = sqrt(.07) = .26458, over sqrt(3) is .15275;
    # t(.975, 2) = 4.30265: half width .65724. Seed 9 has no partner.
    found = paired({0: 0.5, 1: 0.7, 2: 0.9, 9: 1.0}, {2: 0.3, 1: 0.5, 0: 0.4})
    assert found.count == 3
    assert found.mean == pytest.approx(0.3)
    assert found.error == pytest.approx(0.15275, abs=1e-5)
    assert (found.low, found.high) == pytest.approx((-0.35724, 0.95724), abs=1e-5)
    assert not found.resolved
    assert estimate([0.1, 0.11, 0.12]).resolved


def test_one_run_alone_has_no_error():
    found = estimate([0.5])
    assert found.mean == 0.5
    assert math.isnan(found.error)
    assert math.isnan(found.low)
    assert not found.resolved
    assert markdown.mean("accuracy", found) == "50.0"
    assert markdown.difference(found) == "+50.0"
    assert markdown.mean("accuracy", estimate([])) == markdown.difference(estimate([])) == "-"


def test_numbers_as_they_are_written():
    assert markdown.mean("accuracy", estimate([0.8, 0.9]), 3) == "85.0 ± 5.0 (2)"
    assert markdown.mean("auc", estimate([0.8, 0.9]), 2) == "0.850 ± 0.050"
    assert markdown.signed(-0.0004) == "+0.0"
    assert markdown.grid(["a", "b", "c"], [["x", "-", "y"], ["z", "+1.0 [0, 2]", "w"]]).splitlines()[1] == (
        "| --- | ---: | --- |"
    )


def test_equal_values_share_the_better_place():
    assert ranks({"a": 0.5, "b": 0.9, "c": 0.5, "d": 0.1}) == {"a": 2, "b": 1, "c": 2, "d": 4}
