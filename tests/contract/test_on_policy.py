"""An update without the pass for old log-probabilities is the update with it, through verl's own engine and loss."""

import os
import subprocess
import sys

import pytest
import torch
from verl.trainer.ppo.v1 import trainer_base
from verl.workers.engine_workers import ActorRolloutRefWorker, TrainingWorker
from verl.workers.utils import losses

from tests.contract.seams import in_order, seam, source

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def updates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("on policy")
    command = [sys.executable, "-m", "tests.contract.on_policy_updates", str(folder)]
    done = subprocess.run(
        command, env=os.environ | {"VERL_PLATFORM": "cpu"}, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return torch.load(folder / "updates.pt", weights_only=False)


def test_the_gradients_are_the_same(updates):
    gradients, expected = (updates[name]["gradients"] for name in ("without", "with"))
    assert gradients.keys() == expected.keys()
    for name, gradient in expected.items():
        assert torch.allclose(gradients[name], gradient, rtol=1e-5, atol=1e-8 + 1e-6 * gradient.abs().max().item()), (
            name
        )
    assert sum(gradient.abs().sum() for gradient in expected.values()) > 0


def test_accumulated_over_micro_batches(updates):
    assert updates["without"]["micro_batches"] == updates["with"]["micro_batches"] > 1


@pytest.mark.parametrize("name", ["actor/pg_loss", "actor/grad_norm", "actor/entropy", "actor/ppo_kl"])
def test_so_are_loss_norm_and_entropy(updates, name):
    metrics, expected = (updates[name]["metrics"] for name in ("without", "with"))
    assert metrics[name] == pytest.approx(expected[name], rel=1e-5, abs=1e-7)


def test_the_gap_to_the_rollout_is_the_one_verl_computes(updates):
    metrics, expected = (updates[name]["metrics"] for name in ("without", "with"))
    names = [name for name in expected if name.startswith("training/rollout_")]
    assert len(names) == 5
    assert {name: metrics[name] for name in names} == pytest.approx({name: expected[name] for name in names}, rel=1e-4)


def test_the_ratio_is_one(updates):
    assert updates["without"]["metrics"]["actor/ppo_kl"] == 0
    assert updates["without"]["metrics"]["actor/pg_clipfrac"] == 0


def test_the_loss_is_where_we_put_ours():
    text = source(ActorRolloutRefWorker.init_model)
    seam("self.loss_fn = partial(ppo_loss, config=actor_config)" in text, "worker.loss_fn", "CareWorker.init_model")
    seam("self.actor.set_loss_fn(self.loss_fn)" in text, "actor.set_loss_fn", "CareWorker.init_model")
    seam("loss_function=self.loss_fn" in source(TrainingWorker.train_batch), "train_batch asks for it", "OnPolicyLoss")
    text = source(losses.ppo_loss)
    seam('fields = ["response_mask", "old_log_probs", "advantages"]' in text, "its fields", "OnPolicyLoss")
    seam('metrics["actor/entropy_loss"]' in text, "the entropy in the loss", "restore_metrics")


def test_what_else_reads_old_log_probabilities():
    """T19. With every correction off, the advantage does without, once `rollout_correction` is unset."""
    text = source(trainer_base.PPOTrainer._compute_advantage)
    seam(text.count("old_log_probs") == 1, "one mention, in the list of fields", "CareTrainer._compute_old_log_prob")
    condition = in_order(text, "rollout_correction = (", "rollout_corr_config is not None", "if rollout_correction:")
    seam(condition, "rollout_correction=null leaves it out", "CareTrainer._settle_old_log_probs")
    text = source(trainer_base.PPOTrainer._compute_old_log_prob)
    for metric in ("actor/entropy", "calculate_debug_metrics(data)"):
        seam(metric in text, f"{metric} comes from the pass", "restore_metrics")
    text = source(trainer_base.PPOTrainer._balance_batch)
    seam("upsample_batch_to_divisible_size(batch, batch_multiple" in text, "whole updates", "checks.sizes")
