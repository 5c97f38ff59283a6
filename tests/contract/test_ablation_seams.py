"""What the ablations rest on in verl: its loss, its way to a model's logits, its engine with a part frozen."""

import os
import subprocess
import sys

import pytest
import torch
from hydra import compose, initialize_config_module
from tensordict import TensorDict
from verl.utils import tensordict_utils as tu
from verl.utils.config import omega_conf_to_dataclass
from verl.workers import engine_workers
from verl.workers.engine.fsdp import transformer_impl
from verl.workers.utils.losses import ppo_loss

from tests.contract.seams import in_order, seam, source
from verl_care.ablations.kl_loss import KL_WEIGHT, loss_for

pytestmark = pytest.mark.timeout(420)

# ---------------------------------------------------------------- the weighted KL term


@pytest.fixture(scope="module")
def actor():
    with initialize_config_module("verl.trainer.config", version_base=None):
        return compose("care_quickstart", ["care/method=kl_ema"]).actor_rollout_ref.actor


def micro_batch(weights):
    """Two responses of three tokens and one, behind prompts of two."""
    prompts, responses = [[1, 2], [1, 2]], [[3, 4, 5], [3]]
    ids = [torch.tensor(p + r) for p, r in zip(prompts, responses, strict=True)]
    like = [torch.zeros(len(r)) for r in responses]
    columns = {
        "prompts": [torch.tensor(p) for p in prompts],
        "responses": [torch.tensor(r) for r in responses],
        "response_mask": [torch.ones(len(r), dtype=torch.long) for r in responses],
        "old_log_probs": [zeros - 1 for zeros in like],
        "advantages": [zeros + sign for zeros, sign in zip(like, (1, -1), strict=True)],
        "ref_log_prob": [torch.tensor([-1.5, -0.5, -3.0]), torch.tensor([-0.25])],
        KL_WEIGHT: [torch.tensor(weight) for weight in weights],
    }
    nested = {name: torch.nested.as_nested_tensor(rows, layout=torch.jagged) for name, rows in columns.items()}
    data = TensorDict(nested, batch_size=2)
    tu.assign_non_tensor(data, dp_size=1, batch_num_tokens=4, global_batch_size=2)
    log_probs = [torch.full((len(row),), -1.0) for row in ids]
    log_probs = torch.nested.as_nested_tensor(log_probs, layout=torch.jagged).requires_grad_()
    return data, log_probs


def outcome(loss_function, weights, **arguments):
    data, log_probs = micro_batch(weights)
    loss, metrics = loss_function(**arguments, model_output={"log_probs": log_probs}, data=data)
    (gradient,) = torch.autograd.grad(loss, log_probs)
    return loss.item(), gradient.values().tolist(), {key: getattr(m, "values", m) for key, m in metrics.items()}


ONES = [[1.0, 1.0, 1.0], [1.0]]


def test_with_weights_of_one_it_is_verls_own_loss(actor):
    verls = outcome(ppo_loss, ONES, config=omega_conf_to_dataclass(actor))
    ours = outcome(loss_for(actor), ONES)
    seam(ours[0] == pytest.approx(verls[0]), "ppo_loss with use_kl_loss is policy term + coef * KL", "kl_loss")
    assert ours[1] == pytest.approx(verls[1])
    assert ours[2].keys() == verls[2].keys()


def test_a_weight_scales_its_tokens_gradient(actor):
    """k3 = exp(d) - d - 1 with d = ref - log p; its gradient by log p is 1 - exp(d), times coefficient and weight."""
    none = outcome(loss_for(actor), [[0.0] * 3, [0.0]])[1]
    some = outcome(loss_for(actor), [[0.0, 2.0, 0.0], [1.0]])[1]
    added = [one - other for one, other in zip(some, none, strict=True)]
    # positions: prompt token 1 predicts prompt token 2, and so on; response tokens sit at 1, 2, 3 and at 6
    # d = 0.5 for the second token: 0.04 * 2 * (1 - e^0.5) / 3 tokens / 2 responses; d = 0.75: 0.04 * (1 - e^0.75) / 2
    second, fourth = 0.04 * 2 * (1 - 1.6487213) / 3 / 2, 0.04 * (1 - 2.1170000) / 2
    assert added == pytest.approx([0, 0, second, 0, 0, 0, fourth, 0], abs=1e-6)


def test_the_loss_can_be_set():
    text = source(engine_workers.ActorRolloutRefWorker.init_model)
    order = ("self.loss_fn = partial(ppo_loss, config=actor_config)", "self.actor.set_loss_fn(self.loss_fn)")
    seam(in_order(text, *order), "init_model sets the actor's loss, ppo_loss", "CareWorker.init_model")
    text = source(engine_workers.TrainingWorker.train_batch)
    seam("loss_function=self.loss_fn" in text, "train_batch takes it", "CareWorker.init_model")


def test_without_weights_it_is_verls_own_loss(actor):
    data, log_probs = micro_batch(ONES)
    ours = loss_for(actor)(model_output={"log_probs": log_probs}, data=data.exclude(KL_WEIGHT))
    verls = ppo_loss(omega_conf_to_dataclass(actor), {"log_probs": log_probs}, data)
    assert ours[0].item() == verls[0].item()


# ---------------------------------------------------------------- the reference's choices


def test_the_way_to_the_logits():
    text = source(transformer_impl.FSDPEngineWithLMHead.prepare_model_outputs)
    call = "logits_processor_func(student_logits=logits_rmpad.unsqueeze(0), data=micro_batch)"
    seam(text.count(call) == 2, "distillation_use_topk hands the loss function the logits", "ablations.choices")
    text = source(transformer_impl.FSDPEngineWithLMHead.forward_step)
    seam("logits_processor_func=loss_function" in text, "it is the loss function", "ablations.choices")
    text = source(engine_workers.TrainingWorker.infer_batch)
    order = ('key="compute_loss"', "self.loss_fn if compute_loss else None")
    seam(in_order(text, *order), "compute_loss decides whether it is called", "ablations.choices")


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ablating")
    done = subprocess.run(
        [sys.executable, "-m", "tests.contract.ablating", str(folder)],
        env=os.environ | {"VERL_PLATFORM": "cpu"},
        capture_output=True,
        text=True,
        timeout=350,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return torch.load(folder / "result.pt", weights_only=False)


def test_choices_come_beside_the_same_log_probabilities(result):
    assert result["stock keys"] == ["log_probs"]  # nothing of it without being asked
    assert result["same log-probabilities"]
    choices, log_probs = result["lengths"]
    assert choices == log_probs


def test_a_choice_is_the_likeliest_next_token(result):
    # of the response's tokens: a prompt of two, whose last position chooses the first of them
    assert result["choices"][1:-1] == result["by hand"][1:-1]


def test_a_drawn_choice_comes_the_same_way(result):
    as_many, least, most = result["drawn"]
    assert as_many
    assert 0 <= least < most < result["vocabulary"]
    assert not result["same draws"]  # random weights, hundreds of words: equal by chance never


# ---------------------------------------------------------------- a frozen tower


def towers(table):
    return {name: value for name, value in table.items() if ".visual." in name}


def test_a_frozen_tower_has_no_gradient_and_no_state(result):
    assert len(towers(result["has gradient"])) > 10
    assert not any(towers(result["has gradient"]).values())
    assert not any(towers(result["has state"]).values())
    assert not any(towers(result["moved"]).values())


def test_the_rest_trains(result):
    for what in ("has gradient", "has state", "moved"):
        rest = {name: value for name, value in result[what].items() if ".visual." not in name}
        assert all(rest.values()), [name for name, value in rest.items() if not value]
