"""Expected numbers are worked by hand, the arithmetic is in the comments."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from verl_care.algorithm.advantage import group_advantage, group_index

rewards = hnp.arrays(np.float32, st.integers(1, 24), elements=st.sampled_from([0.0, 0.1, 0.3, 1.0, 2.0, 2.5]))


def test_two_groups_interleaved():
    # a: 2, 1, 0 has mean 1 and std sqrt((1 + 0 + 1)/2) = 1: advantages 1, 0, -1 over 1.0001
    # b: 2.5, 1.5 has mean 2 and std sqrt((0.25 + 0.25)/1) = 0.7071068: +-0.5 / 0.7072068 = +-0.7070068
    advantage_N = group_advantage(torch.tensor([2.0, 2.5, 1.0, 0.0, 1.5]), ["a", "b", "a", "a", "b"])
    expected = [1 / 1.0001, 0.7070068, 0.0, -1 / 1.0001, -0.7070068]
    assert advantage_N.tolist() == pytest.approx(expected, abs=1e-6)


def test_epsilon():
    # mean 1, std sqrt((1 + 1)/1) = 1.4142136; 1 / 2.4142136 = 0.4142136
    assert group_advantage(torch.tensor([2.0, 0.0]), [7, 7], epsilon=1.0).tolist() == pytest.approx(
        [0.4142136, -0.4142136], abs=1e-6
    )


def test_a_group_of_one_has_no_advantage():
    assert group_advantage(torch.tensor([2.0, 1.0, 0.0]), [0, 1, 1]).tolist()[0] == 0.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.1, 1 / 3, 2.95, 1e-8, 1e8])
@pytest.mark.parametrize("size", [2, 3, 7, 8, 1000])
def test_identical_rewards_have_exactly_no_advantage(value, size, dtype):
    advantage_N = group_advantage(torch.full((size,), value, dtype=dtype), [0] * size)
    assert (advantage_N == 0).all()


@given(rewards, st.randoms(use_true_random=False))
def test_order_and_names_of_groups_do_not_matter(reward, random):
    reward_N = torch.from_numpy(reward)
    group_N = torch.tensor([random.randrange(4) for _ in reward])
    advantage_N = group_advantage(reward_N, group_N)
    shuffled = torch.tensor(random.sample(range(len(reward)), len(reward)))
    names = [f"prompt {9 - group}" for group in group_N[shuffled].tolist()]
    assert torch.allclose(group_advantage(reward_N[shuffled], names), advantage_N[shuffled], atol=1e-6)


@given(rewards)
def test_each_group_alone_gives_the_same(reward):
    reward_N, group_N = torch.from_numpy(reward), torch.arange(len(reward)) % 3
    advantage_N = group_advantage(reward_N, group_N)
    for group in group_N.unique():
        own_N = reward_N[group_N == group].double()
        expected_N = (own_N - own_N.mean()) / (own_N.std() + 1e-4) if len(own_N) > 1 else torch.zeros(1)
        assert torch.allclose(advantage_N[group_N == group], expected_N.float(), atol=1e-5)


@pytest.mark.parametrize(
    "group_N",
    [
        torch.tensor([5, 3, 5, 3]),
        np.array([5, 3, 5, 3]),
        [5, 3, 5, 3],
        ["b", "a", "b", "a"],
        np.array(["b", "a", "b", "a"], dtype=object),
        np.array(["b", "a", "b", "a"]),
    ],
)
def test_groups_may_be_named_in_any_way(group_N):
    index_N, size_P = group_index(group_N, like_N=torch.zeros(4))
    assert index_N.tolist() == [1, 0, 1, 0]
    assert size_P.tolist() == [2, 2]


def test_empty_batch():
    assert group_advantage(torch.zeros(0), torch.zeros(0, dtype=torch.long)).shape == (0,)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.int64, torch.float32),
    ],
)
def test_dtype(dtype, expected):
    assert group_advantage(torch.tensor([1, 2], dtype=dtype), [0, 0]).dtype == expected


def test_no_gradient():
    assert not group_advantage(torch.tensor([1.0, 2.0], requires_grad=True), [0, 0]).requires_grad


@pytest.mark.parametrize(
    ("reward_N", "group_N", "epsilon", "message"),
    [
        (torch.zeros(3), [0, 0], 1e-4, r"group_N has shape \(2,\) for 3 responses"),
        (torch.zeros(2, 1), [0, 0], 1e-4, r"reward_N has shape \(2, 1\)"),
        (torch.zeros(2), [0, 0], -1.0, r"epsilon is -1.0"),
    ],
)
def test_refusals(reward_N, group_N, epsilon, message):
    with pytest.raises(ValueError, match=message):
        group_advantage(reward_N, group_N, epsilon)
