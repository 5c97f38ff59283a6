"""Expected numbers are worked by hand, the arithmetic is in the comments."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from verl_care.algorithm.advantage import group_advantage
from verl_care.algorithm.consistency import answer_likelihood, consistency_bonus

NAN = float("nan")


def scored(accuracy: list[float], likelihood: list[float], group=None, **options):
    group = [0] * len(accuracy) if group is None else group
    return consistency_bonus(torch.tensor(accuracy), torch.tensor(likelihood), group, **options)


def approx(values):
    return pytest.approx(values, abs=1e-6, nan_ok=True)


# Likelihood


def test_likelihood_over_the_answer_only():
    ref_log_prob_NT = torch.tensor([[-9.0, math.log(0.5), math.log(0.125), -9.0], [NAN, -9.0, math.log(0.3), NAN]])
    mask_NT = torch.tensor([[0, 1, 1, 0], [0, 0, 1, 0]])
    # geometric: sqrt(0.5 * 0.125) = 0.25; arithmetic: (0.5 + 0.125)/2 = 0.3125; one token: the same
    assert answer_likelihood(ref_log_prob_NT, mask_NT).tolist() == approx([0.25, 0.3])
    assert answer_likelihood(ref_log_prob_NT, mask_NT.bool(), mean="arithmetic").tolist() == approx([0.3125, 0.3])


def test_no_answer_has_no_likelihood():
    for mean in ("geometric", "arithmetic"):
        likelihood_N = answer_likelihood(torch.zeros(2, 3), torch.tensor([[0, 0, 0], [0, 1, 0]]), mean=mean)
        assert likelihood_N.tolist() == approx([NAN, 1.0])


def test_an_impossible_answer_has_likelihood_zero():
    assert answer_likelihood(torch.tensor([[-math.inf, 0.0]]), torch.ones(1, 2)).tolist() == [0.0]


def test_likelihood_is_a_plain_number():
    ref_log_prob_NT = torch.zeros(1, 2, dtype=torch.bfloat16, requires_grad=True)
    likelihood_N = answer_likelihood(ref_log_prob_NT, torch.ones(1, 2))
    assert likelihood_N.dtype == torch.float32
    assert not likelihood_N.requires_grad


@pytest.mark.parametrize(
    ("ref_log_prob_NT", "mean", "message"),
    [
        (torch.tensor([[NAN, 0.0]]), "geometric", "ref_log_prob_NT is NaN at answer tokens of 1 of 1"),
        (torch.zeros(1, 3), "geometric", r"\(1, 3\) and answer_mask_NT \(1, 2\)"),
        (torch.zeros(1, 2), "harmonic", "'harmonic'"),
    ],
)
def test_likelihood_refusals(ref_log_prob_NT, mean, message):
    with pytest.raises(ValueError, match=message):
        answer_likelihood(ref_log_prob_NT, torch.ones(1, 2), mean=mean)


# Bonus


def test_one_prompt():
    # mean a = 4/8 = 0.5; S = the four correct; q = 0.95 (capped), 0.95, 0.5, 0.2; m = 2.6/4 = 0.65
    # the two at 0.95 earn 0.5 * 1; a wrong one with a likely answer earns nothing
    result = scored([1, 1, 1, 1, 0, 0, 0, 0.0], [0.99, 0.95, 0.5, 0.2, 0.99, 0.5, 0.1, NAN])
    assert result.bonus_N.tolist() == [0.5, 0.5, 0, 0, 0, 0, 0, 0]
    assert result.selected_N.tolist() == [True] * 4 + [False] * 4
    assert result.threshold_N.tolist() == approx([0.65] * 8)


def test_margin():
    # m = (0.8 + 0.49 + 0.21)/3 = (0.8 + 0.48 + 0.22)/3 = 0.5; a margin of 0.01 lets 0.49 in but not 0.48
    assert scored([1, 1, 1.0], [0.8, 0.49, 0.21]).bonus_N.tolist() == [0.5, 0, 0]
    assert scored([1, 1, 1.0], [0.8, 0.49, 0.21], consistency_margin=0.01).bonus_N.tolist() == [0.5, 0.5, 0]
    assert scored([1, 1, 1.0], [0.8, 0.48, 0.22], consistency_margin=0.01).bonus_N.tolist() == [0.5, 0, 0]


def test_partial_accuracies():
    # mean a = (0.9 + 0.6 + 0.3 + 0.2)/4 = 0.5; S = {0.9, 0.6}; m = (0.4 + 0.6)/2 = 0.5; only 0.6 reaches it: 0.5 * 0.6
    result = scored([0.9, 0.6, 0.3, 0.2], [0.4, 0.6, 0.9, 0.9])
    assert result.selected_N.tolist() == [True, True, False, False]
    assert result.bonus_N.tolist() == approx([0, 0.3, 0, 0])


def test_the_mean_accuracy_is_over_all_responses_of_the_group():
    # With the unanswered response mean a = (1 + 1 + 0.5 + 0.5)/4 = 0.75 and 0.5 is out; without it, 2/3 would be too.
    # The unanswered one is accurate, yet not in S: m = mean of 0.3 alone.
    result = scored([1.0, 1.0, 0.5, 0.5], [NAN, 0.3, 0.9, 0.9])
    assert result.selected_N.tolist() == [False, True, False, False]
    assert result.threshold_N.tolist() == approx([0.3] * 4)
    assert result.bonus_N.tolist() == [0, 0.5, 0, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_accuracy_threshold_itself_is_not_enough(dtype):
    # 0.1 in float32 is above 0.1 in float64: the comparison must not see that.
    accuracy_N = torch.tensor([0.1, 0.1], dtype=dtype)
    result = consistency_bonus(accuracy_N, torch.tensor([0.9, 0.9]), [0, 0])
    assert not result.selected_N.any()
    assert consistency_bonus(accuracy_N, torch.ones(2), [0, 0], accuracy_threshold=0.09).selected_N.all()


@pytest.mark.parametrize("size", [3, 6, 7, 8, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_numbers_reach_their_own_mean(size, dtype):
    for value in (0.95, 0.3, 0.7):
        equal_N = torch.full((size,), value, dtype=dtype)
        result = consistency_bonus(equal_N, equal_N, [0] * size)
        assert result.bonus_N.tolist() == approx([0.5 * value] * size)


def test_the_cap_makes_certain_answers_equal():
    # uncapped m = (1 + 0.96)/2 = 0.98 and 0.96 misses it; capped both are 0.95
    assert scored([1, 1.0], [1.0, 0.96]).bonus_N.tolist() == [0.5, 0.5]
    assert scored([1, 1.0], [1.0, 0.96], confidence_upper_bound=1.0).bonus_N.tolist() == [0.5, 0]


def test_dense_and_none():
    # 0.5 * a * p, uncapped and for all who answered; the comparison is reported all the same
    options = {"accuracy": [1.0, 0.5, 0.0, 1.0], "likelihood": [1.0, 0.4, 0.9, NAN]}
    dense, none, hard = (scored(**options, bonus=bonus) for bonus in ("dense", "none", "hard"))
    assert dense.bonus_N.tolist() == approx([0.5, 0.1, 0.0, 0.0])
    assert none.bonus_N.tolist() == [0, 0, 0, 0]
    for result in (dense, none):
        assert torch.equal(result.selected_N, hard.selected_N)
        assert torch.equal(result.threshold_N, hard.threshold_N)


def test_selected_without_any_likelihood():
    # S needs no likelihood: answered, right, at the group's mean of 2/4
    accuracy_N, nothing_N = torch.tensor([1.0, 1.0, 0.0, 0.0]), torch.full((4,), math.nan)
    answered_N = torch.tensor([True, False, True, True])
    found = consistency_bonus(accuracy_N, nothing_N, list("aaaa"), answered_N=answered_N, bonus="none")
    assert found.selected_N.tolist() == [True, False, False, False]
    assert found.bonus_N.tolist() == [0, 0, 0, 0]
    assert found.threshold_N.isnan().all()
    with pytest.raises(ValueError, match="score all of `needs_likelihood`"):
        consistency_bonus(accuracy_N, nothing_N, list("aaaa"), answered_N=answered_N)


def test_bonus_coefficient():
    assert scored([0.8], [0.5], bonus_coefficient=1.0).bonus_N.tolist() == approx([0.8])


# Consequences


def advantage(accuracy: list[float], likelihood: list[float], epsilon: float = 0.0) -> Tensor:
    """Of responses that all have the format."""
    reward_N = torch.tensor(accuracy) + 1 + scored(accuracy, likelihood).bonus_N
    return group_advantage(reward_N, [0] * len(accuracy), epsilon)


def test_all_correct_responses_with_the_bonus_have_the_advantages_of_grpo():
    accuracy = [1.0, 1.0, 0.0, 0.0, 0.0]
    grpo_N = group_advantage(torch.tensor(accuracy) + 1, [0] * 5, epsilon=0.0)
    assert advantage(accuracy, [0.96, 0.99, 0.1, 0.2, 0.3]).tolist() == approx(grpo_N.tolist())


def test_an_all_correct_group_still_learns_from_who_gets_the_bonus():
    # m = 0.5; rewards 2.5, 2, 2.5, 2: mean 2.25, std sqrt(4 * 0.0625 / 3) = 0.2886751; 0.25 / 0.2886751 = 0.8660254
    assert advantage([1.0] * 4, [0.9, 0.1, 0.9, 0.1]).tolist() == approx([0.8660254, -0.8660254] * 2)
    assert (advantage([1.0] * 4, [0.9] * 4, epsilon=1e-4) == 0).all()


def test_a_group_without_a_correct_response_gets_nothing():
    for accuracy in ([0.0, 0.0], [0.1, 0.1], [0.05, 0.1]):
        result = scored(accuracy, [0.9, 0.2])
        assert result.bonus_N.tolist() == [0, 0]
        assert result.threshold_N.isnan().all()


@given(st.floats(0, 1, width=32), st.integers(0, 7))
def test_a_lone_correct_response_always_gets_it(likelihood, place):
    accuracy, likelihoods = [0.0] * 8, [0.99] * 8
    accuracy[place], likelihoods[place] = 1.0, likelihood
    assert scored(accuracy, likelihoods).bonus_N[place] == 0.5


responses = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.1, 0.25, 0.7, 1.0]),
        st.sampled_from([0.0, 0.2, 0.5, 0.94, 0.99, 1.0, NAN]),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=24,
)


@given(responses, st.sampled_from(["hard", "dense"]), st.randoms(use_true_random=False))
def test_order_and_interleaving_do_not_matter(rows, bonus, random):
    accuracy, likelihood, group = map(list, zip(*rows, strict=True))
    expected = scored(accuracy, likelihood, group, bonus=bonus)
    order = random.sample(range(len(rows)), len(rows))
    shuffled = scored(*([column[i] for i in order] for column in (accuracy, likelihood, group)), bonus=bonus)
    for field, field_shuffled in zip(expected, shuffled, strict=True):
        assert torch.equal(field[order].nan_to_num(-1), field_shuffled.nan_to_num(-1))


@given(responses)
def test_each_group_alone_gives_the_definition(rows):
    accuracy, likelihood, group = map(list, zip(*rows, strict=True))
    result = scored(accuracy, likelihood, [f"prompt {g}" for g in group], consistency_margin=0.01)
    for own_group in set(group):
        own = [i for i in range(len(rows)) if group[i] == own_group]
        mean = sum(accuracy[i] for i in own) / len(own)
        chosen = [i for i in own if accuracy[i] > 0.1 and accuracy[i] >= mean - 1e-6 and not math.isnan(likelihood[i])]
        threshold = sum(min(likelihood[i], 0.95) for i in chosen) / len(chosen) if chosen else NAN
        for i in own:
            earned = i in chosen and min(likelihood[i], 0.95) >= threshold - 0.01 - 1e-6
            assert result.selected_N[i].item() == (i in chosen)
            assert result.bonus_N[i].item() == approx(0.5 * accuracy[i] if earned else 0.0)
            assert result.threshold_N[i].item() == approx(threshold)


@given(responses)
def test_only_selected_responses_earn_and_each_selection_has_a_winner(rows):
    accuracy, likelihood, group = map(list, zip(*rows, strict=True))
    result = scored(accuracy, likelihood, group)
    earned_N = result.bonus_N > 0
    assert not (earned_N & ~result.selected_N).any()
    groups_N = torch.tensor(group)
    assert set(groups_N[result.selected_N].tolist()) == set(groups_N[earned_N].tolist())


# Plain numbers in, plain numbers out


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_dtype_and_gradient(dtype):
    accuracy_N = torch.ones(2, dtype=dtype, requires_grad=True)
    result = consistency_bonus(accuracy_N, torch.ones(2, requires_grad=True), np.array(["x", "y"], dtype=object))
    expected = torch.promote_types(dtype, torch.float32)
    assert (result.bonus_N.dtype, result.selected_N.dtype, result.threshold_N.dtype) == (expected, torch.bool, expected)
    assert not result.bonus_N.requires_grad


def test_empty_batch():
    result = consistency_bonus(torch.zeros(0), torch.zeros(0), torch.zeros(0, dtype=torch.long))
    assert [field.shape for field in result] == [(0,)] * 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bonus": "soft"}, "bonus is 'soft'"),
        ({"bonus_coefficient": -0.5}, "bonus_coefficient is -0.5"),
        ({"confidence_upper_bound": 0.0}, "confidence_upper_bound is 0.0"),
        ({"confidence_upper_bound": 1.5}, "confidence_upper_bound is 1.5"),
        ({"consistency_margin": -0.01}, "consistency_margin is -0.01"),
        ({"consistency_margin": NAN}, "consistency_margin is nan"),
        ({"accuracy_threshold": 2.0}, "accuracy_threshold is 2.0"),
        ({"accuracy": [1.0, 2.0]}, "accuracy_N holds 2.0"),
        ({"accuracy": [1.0, NAN]}, "accuracy_N holds nan"),
        ({"accuracy": [1.0, -0.5]}, "accuracy_N holds -0.5"),
        ({"accuracy": [1.0]}, r"accuracy_N has shape \(1,\) and likelihood_N \(2,\)"),
        ({"group": [0, 0, 0]}, r"group_N has shape \(3,\) for 2 responses"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        scored(**{"accuracy": [1.0, 1.0], "likelihood": [0.5, 0.5], **options})
