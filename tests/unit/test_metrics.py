"""The `care/` metrics of a step, counted by hand."""

import pytest
import torch

from verl_care.algorithm.consistency import ConsistencyBonus, consistency_bonus
from verl_care.algorithm.metrics import care_metrics

NAN = float("nan")


def metrics(accuracy, form, likelihood, answered, group, **options):
    accuracy_N, likelihood_N = torch.tensor(accuracy), torch.tensor(likelihood)
    if options.get("bonus") == "none":
        options["answered_N"] = torch.tensor(answered)
    result = consistency_bonus(accuracy_N, likelihood_N, group, **options)
    return care_metrics(accuracy_N, torch.tensor(form), likelihood_N, torch.tensor(answered), group, result, 0.1)


def test_two_groups_interleaved():
    # group a: accuracy 1, 1, 0     likelihood 0.9, 0.5, none (no answer): mean a 2/3, S = both right ones,
    #          m = 0.7, so only the first gets 0.5 * 1
    # group b: accuracy 0, 0, 0.5   likelihood 0.4, 0.2, 0.6: mean a 1/6, S = the last alone, gets 0.5 * 0.5
    found = metrics(
        accuracy=[1.0, 0.0, 1.0, 0.0, 0.0, 0.5],
        form=[1.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        likelihood=[0.9, 0.4, 0.5, 0.2, NAN, 0.6],
        answered=[True, True, True, True, False, True],
        group=["a", "b", "a", "b", "a", "b"],
    )
    assert found == pytest.approx(
        {
            "care/accuracy": 2.5 / 6,
            "care/format": 3 / 6,
            "care/bonus": (0.5 + 0.25) / 6,
            "care/selected_fraction": 3 / 6,
            "care/no_answer_fraction": 1 / 6,
            "care/all_wrong_groups": 0.0,
            "care/all_correct_groups": 0.0,
            "care/equal_reward_groups": 0.0,
            "care/bonus_rate": 2 / 3,
            "care/likelihood_mean": (0.9 + 0.5 + 0.6) / 3,
            "care/likelihood_min": 0.5,
            "care/likelihood_max": 0.9,
        }
    )
    assert all(type(value) is float for value in found.values())


def test_groups_of_one_kind():
    # a all wrong (0.1 is not above the threshold), b all right, c mixed, d all but right
    found = metrics(
        accuracy=[0.0, 0.1, 1.0, 1.0, 0.0, 1.0, 1.0, 0.99],
        form=[1.0] * 8,
        likelihood=[0.5] * 8,
        answered=[True] * 8,
        group=["a", "a", "b", "b", "c", "c", "d", "d"],
    )
    assert found["care/all_wrong_groups"] == 1 / 4
    assert found["care/all_correct_groups"] == 1 / 4


def test_groups_that_are_rewarded_alike():
    # a: 1 + 0 and 0 + 1 are alike; b: both right and in the format, but one alone has the bonus; c: both fail
    found = metrics(
        accuracy=[1.0, 0.0, 1.0, 1.0, 0.0, 0.0],
        form=[0.0, 1.0, 1.0, 1.0, 0.0, 0.0],
        likelihood=[0.9, 0.9, 0.9, 0.1, 0.9, 0.9],
        answered=[True] * 6,
        group=["a", "a", "b", "b", "c", "c"],
        bonus="none",
    )
    assert found["care/equal_reward_groups"] == 1.0
    found = metrics(
        accuracy=[1.0, 0.0, 1.0, 1.0, 0.0, 0.0],
        form=[0.0, 1.0, 1.0, 1.0, 0.0, 0.0],
        likelihood=[0.9, 0.9, 0.9, 0.1, 0.9, 0.9],
        answered=[True] * 6,
        group=["a", "a", "b", "b", "c", "c"],
    )
    # the bonus parts a (its right one gets .5) and b
    assert found["care/equal_reward_groups"] == pytest.approx(1 / 3)


def test_nobody_selected_logs_no_likelihood():
    found = metrics([0.0, 0.0], [1.0, 0.0], [0.9, 0.8], [True, True], [7, 7])
    assert found == {
        "care/accuracy": 0.0,
        "care/format": 0.5,
        "care/bonus": 0.0,
        "care/selected_fraction": 0.0,
        "care/no_answer_fraction": 0.0,
        "care/all_wrong_groups": 1.0,
        "care/all_correct_groups": 0.0,
        "care/equal_reward_groups": 0.0,
    }


def test_without_a_reference_there_is_no_likelihood_to_log():
    # the trainer passes NaN for everybody when bonus=none
    found = metrics([1.0, 0.0], [1.0, 1.0], [NAN, NAN], [True, True], ["a", "a"], bonus="none")
    assert found["care/accuracy"] == 0.5
    assert found["care/selected_fraction"] == 0.5
    assert "care/likelihood_mean" not in found
    assert not any(value != value for value in found.values())


def test_the_dense_bonus():
    # 0.5 * a * p: 0.5 * 1 * 0.8 and 0.5 * 0.5 * 0.4; selected is the first alone (mean a 0.75)
    found = metrics([1.0, 0.5], [1.0, 1.0], [0.8, 0.4], [True, True], ["a", "a"], bonus="dense")
    assert found["care/bonus"] == pytest.approx((0.4 + 0.1) / 2)
    assert found["care/bonus_rate"] == 1.0
    assert found["care/selected_fraction"] == 0.5


def test_the_threshold_of_wrong_is_the_settings():
    accuracy_N = torch.tensor([0.3, 0.2])
    result = ConsistencyBonus(torch.zeros(2), torch.zeros(2, dtype=torch.bool), torch.full((2,), NAN))
    for threshold, expected in ((0.25, 0.0), (0.3, 1.0)):
        found = care_metrics(
            accuracy_N, torch.ones(2), torch.full((2,), NAN), torch.ones(2).bool(), ["a", "a"], result, threshold
        )
        assert found["care/all_wrong_groups"] == expected
