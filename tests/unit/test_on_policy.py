"""When old log-probabilities are the current ones, and what the loss makes of it."""

from itertools import product

import pytest
import torch
from tensordict import TensorDict
from verl.utils.metric import Metric, reduce_metrics

from tests.unit.configs import put
from verl_care.on_policy import (
    OnPolicyLoss,
    needs_old_log_probs,
    restore_metrics,
    updates_per_batch,
)

# key, value, what is named; each alone makes the pass necessary
NEEDS = [
    ("actor_rollout_ref.actor.ppo_epochs", 2, "ppo_epochs=2"),
    ("actor_rollout_ref.actor.ppo_mini_batch_size", 4, "ppo_mini_batch_size=4 of 8"),
    ("data.train_batch_size", 16, "ppo_mini_batch_size=8 of 16"),
    ("algorithm.use_kl_in_reward", True, "use_kl_in_reward"),
    ("algorithm.rollout_correction.bypass_mode", True, "bypass_mode"),
    ("algorithm.rollout_correction.rollout_is", "token", "rollout_is=token"),
    ("algorithm.rollout_correction.rollout_rs", "seq_sum_k1", "rollout_rs=seq_sum_k1"),
    ("distillation.enabled", True, "distillation.enabled"),
]
# key, value; none of them does
HARMLESS = [
    ("actor_rollout_ref.actor.ppo_mini_batch_size", 16),  # verl pads the batch up to one update
    ("actor_rollout_ref.actor.ppo_max_token_len_per_gpu", 300),  # micro-batches of one optimizer step
    ("actor_rollout_ref.actor.use_kl_loss", True),
    ("actor_rollout_ref.actor.entropy_coeff", 0.1),
    ("actor_rollout_ref.actor.policy_loss.loss_mode", "gspo"),
    ("algorithm.rollout_correction", None),
    ("algorithm.rollout_correction.rollout_is_threshold", 3.0),
    ("distillation", None),
]


@pytest.mark.parametrize("name", ["care_base", "care_quickstart"])
def test_our_configurations_are_on_policy(composed, name):
    assert not list(needs_old_log_probs(composed[name]))


@pytest.mark.parametrize(("key", "value", "named"), NEEDS)
def test_each_of_these_needs_the_pass(config, key, value, named):
    put(config, "actor_rollout_ref.actor.ppo_mini_batch_size", 8)
    put(config, key, value)
    (reason,) = needs_old_log_probs(config)
    assert named in reason


@pytest.mark.parametrize(("one", "other"), list(product(NEEDS[::2], NEEDS[1::2])))
def test_two_of_them_are_both_named(config, one, other):
    put(config, "actor_rollout_ref.actor.ppo_mini_batch_size", 8)
    for key, value, _ in (one, other):
        put(config, key, value)
    reasons = list(needs_old_log_probs(config))
    both_cut_the_batch = {one[0], other[0]} == {"actor_rollout_ref.actor.ppo_mini_batch_size", "data.train_batch_size"}
    assert len(reasons) == (1 if both_cut_the_batch else 2)


@pytest.mark.parametrize(("key", "value"), HARMLESS)
def test_these_do_not(config, key, value):
    put(config, key, value)
    assert not list(needs_old_log_probs(config))


@pytest.mark.parametrize(
    ("batch", "mini", "epochs", "updates"), [(8, 8, 1, 1), (8, 4, 3, 6), (9, 4, 1, 3), (4, 8, 1, 1)]
)
def test_updates_per_batch(config, batch, mini, epochs, updates):
    put(config, "data.train_batch_size", batch)
    put(config, "actor_rollout_ref.actor.ppo_mini_batch_size", mini)
    put(config, "actor_rollout_ref.actor.ppo_epochs", epochs)
    assert updates_per_batch(config) == updates


# ---------------------------------------------------------------- the loss


def nested(*rows):
    return torch.nested.as_nested_tensor([torch.tensor(row) for row in rows], layout=torch.jagged)


def micro_batch():
    """Two responses of 2 and 1 tokens to prompts of 2 and 1."""
    data = TensorDict(
        {
            "response_mask": nested([1, 1], [1]),
            "rollout_log_probs": nested([-2.0, -3.0], [-4.5]),
        },
        batch_size=2,
    )
    data.set_non_tensor("dp_size", 2)
    return data


def spy(seen):
    def loss(model_output, data, dp_group):
        seen.update(model_output=model_output, data=data, dp_group=dp_group)
        return model_output["log_probs"].values().sum(), {"loss": 1.0}

    return loss


def model_output():
    # a token's log-probability stands at the position before it
    log_probs = torch.tensor([-1.0, -2.0, -3.0, -9.0, -4.0, -9.0], requires_grad=True)
    offsets = torch.tensor([0, 4, 6])
    return {
        "log_probs": torch.nested.nested_tensor_from_jagged(log_probs, offsets),
        "entropy": torch.nested.nested_tensor_from_jagged(log_probs * 2, offsets),
    }


def test_the_current_log_probabilities_are_the_old_ones():
    seen, data = {}, micro_batch()
    loss, metrics = OnPolicyLoss(spy(seen), entropy_coeff=0)(model_output=model_output(), data=data, dp_group="ranks")
    assert loss.requires_grad
    old = seen["data"]["old_log_probs"]
    assert [row.tolist() for row in old.unbind()] == [[-2.0, -3.0], [-4.0]]
    assert not old.requires_grad
    assert seen["dp_group"] == "ranks"
    assert "old_log_probs" not in data  # the batch itself is left alone
    assert metrics["loss"] == 1.0
    assert (
        metrics["rollout_gap/tokens"].aggregate() == 6
    )  # three tokens on each of two ranks, of which verl takes the mean


def test_old_log_probabilities_that_are_there_are_used():
    seen, data = {}, micro_batch()
    data["old_log_probs"] = nested([-5.0, -5.0], [-5.0])
    _, metrics = OnPolicyLoss(spy(seen), entropy_coeff=0)(model_output=model_output(), data=data)
    assert seen["data"] is data
    assert metrics == {"loss": 1.0}


@pytest.mark.parametrize(("coefficient", "in_the_graph"), [(0, False), (0.1, True)])
def test_an_entropy_without_weight_stays_out_of_the_backward_pass(coefficient, in_the_graph):
    seen = {}
    OnPolicyLoss(spy(seen), coefficient)(model_output=model_output(), data=micro_batch())
    assert seen["model_output"]["entropy"].requires_grad == in_the_graph
    assert seen["model_output"]["log_probs"].requires_grad


def test_without_the_rollouts_log_probabilities_there_is_no_gap():
    data = micro_batch().exclude("rollout_log_probs")
    _, metrics = OnPolicyLoss(spy({}), entropy_coeff=0)(model_output=model_output(), data=data)
    assert metrics == {"loss": 1.0}


def test_metrics_get_their_names_back():
    # two micro-batches of one rank, as verl collects them
    loss = OnPolicyLoss(spy({}), entropy_coeff=0)
    collected = {}
    for _ in range(2):
        _, metrics = loss(model_output=model_output(), data=micro_batch())
        for name, metric in metrics.items():
            if isinstance(metric, Metric):
                collected.setdefault(f"actor/{name}", metric.init_list()).append(metric)
    step = reduce_metrics(collected) | {"actor/entropy_loss": 0.5, "actor/lr": 1e-6}
    restore_metrics(step)
    assert not [name for name in step if "rollout_gap" in name]
    # exp(-4) - exp(-4.5) = 0.0072066 for one token of three
    assert step["training/rollout_probs_diff_mean"] == pytest.approx(0.0072066 / 3, rel=1e-4)
    assert step["training/rollout_probs_diff_max"] == pytest.approx(0.0072066, rel=1e-4)
    assert step["actor/entropy"] == 0.5


def test_metrics_of_a_step_with_the_pass_are_left_alone():
    step = {"actor/entropy": 0.4, "actor/entropy_loss": 0.5, "training/rollout_probs_diff_mean": 1e-6}
    restore_metrics(step)
    assert step == {"actor/entropy": 0.4, "actor/entropy_loss": 0.5, "training/rollout_probs_diff_mean": 1e-6}
