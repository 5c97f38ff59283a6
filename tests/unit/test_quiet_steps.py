"""Twenty steps that taught nothing are told, and then twice as many."""

from __future__ import annotations

import logging

import pytest

from verl_care.quiet_steps import QuietSteps


def run(shares: list[float], accuracy: float = 0.0, form: float = 0.0) -> None:
    steps = QuietSteps()
    for step, share in enumerate(shares, start=1):
        steps.add(step, {"care/equal_reward_groups": share, "care/accuracy": accuracy, "care/format": form})


@pytest.mark.parametrize(
    ("shares", "told"),
    [
        ([1.0] * 19, []),
        ([1.0] * 165, [20, 40, 80, 160]),
        ([1.0] * 19 + [0.75] + [1.0] * 19, []),  # one group that learns ends the row
        ([0.5] * 5 + [1.0] * 22, [25]),
    ],
)
def test_when_it_is_told(shares: list[float], told: list[int], caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING, "verl_care"):
        run(shares)
    assert [int(record.getMessage().split(":")[0].removeprefix("step ")) for record in caplog.records] == told


def test_a_collapse_names_the_last_step_that_taught_something(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING, "verl_care"):
        run([0.5] * 5 + [1.0] * 20)
    (record,) = caplog.records
    assert "accuracy 0.00, format 0.00" in record.getMessage()
    assert "a checkpoint up to step 5," in record.getMessage()
    assert "actor_rollout_ref.actor.optim.lr" in record.getMessage()


def test_where_all_is_right_nothing_has_collapsed(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING, "verl_care"):
        run([1.0] * 20, accuracy=1.0, form=1.0)
    (record,) = caplog.records
    assert "too easy" in record.getMessage()
    assert "collapsed" not in record.getMessage()
