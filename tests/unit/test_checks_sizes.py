"""Batches, ranks, servers and micro-batches that do not go together stop the run before a model is loaded."""

import pytest

from tests.unit.configs import message, put
from verl_care.checks import check

BATCH, MINI = "data.train_batch_size", "actor_rollout_ref.actor.ppo_mini_batch_size"
N, GPUS, NODES = "actor_rollout_ref.rollout.n", "trainer.n_gpus_per_node", "trainer.nnodes"
TENSOR, DATA = (f"actor_rollout_ref.rollout.{name}_parallel_size" for name in ("tensor_model", "data"))
ULYSSES = "actor_rollout_ref.actor.fsdp_config.ulysses_sequence_parallel_size"
ACTOR, REF, ROLLOUT = (
    f"actor_rollout_ref.{name}_max_token_len_per_gpu" for name in ("actor.ppo", "ref.log_prob", "rollout.log_prob")
)
PROMPT, RESPONSE = "data.max_prompt_length", "data.max_response_length"


def changed(config, changes):
    for key, value in changes.items():
        put(config, key, value)
    return config


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({BATCH: 4, MINI: 4, N: 8, GPUS: 5}, "the 32 responses of an update cannot be shared equally by 5 ranks"),
        ({BATCH: 4, MINI: 1, N: 8, GPUS: 8, NODES: 2}, "the 8 responses of an update cannot be shared equally by 16"),
        # two ranks share a row, so 8 of 16 share the responses
        (
            {BATCH: 3, MINI: 3, N: 4, GPUS: 16, ULYSSES: 2},
            "the 12 responses of an update cannot be shared equally by 8",
        ),
        ({BATCH: 8, MINI: 3}, "ppo_mini_batch_size=3 of data.train_batch_size=8: verl fills the last update up"),
        ({BATCH: 4, MINI: 8}, "ppo_mini_batch_size=8 of data.train_batch_size=4: verl fills the last update up"),
        ({BATCH: 4, MINI: 4, GPUS: 4, TENSOR: 3}, "a vLLM server has 3 GPUs, which do not divide the run's 4"),
        ({BATCH: 4, MINI: 4, GPUS: 4, TENSOR: 2, DATA: 4}, "a vLLM server has 8 GPUs, which do not divide the run's 4"),
        ({"actor_rollout_ref.rollout.pipeline_model_parallel_size": 2}, "verl 0.9.1 has none with vLLM"),
        ({MINI: 0}, "ppo_mini_batch_size=0: a count, so 1 at least"),
        ({BATCH: "four"}, "train_batch_size=four: a count, so 1 at least"),
        ({GPUS: 0}, "n_gpus_per_node=0: a count, so 1 at least"),
        # 192 + 32 = 224 tokens
        ({ACTOR: 223, REF: 224}, "a micro-batch of 223 tokens cannot hold the 224 of a prompt"),
        ({REF: 223}, "Set actor_rollout_ref.ref.log_prob_max_token_len_per_gpu to 224 or more"),
        ({ROLLOUT: 223, BATCH: 8, MINI: 4}, "Set actor_rollout_ref.rollout.log_prob_max_token_len_per_gpu to 224"),
        # two ranks share a row
        ({ACTOR: 111, ULYSSES: 2, GPUS: 2}, "Set actor_rollout_ref.actor.ppo_max_token_len_per_gpu to 112 or more"),
        ({ACTOR: None}, "ppo_max_token_len_per_gpu=None: a micro-batch of 0 tokens"),
    ],
    ids=str,
)
def test_what_does_not_go_together(config, changes, reason):
    put(config, "care.packing", ULYSSES not in changes)
    text = message(changed(config, changes))
    assert reason in text
    assert "Set " in text
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {BATCH: 4, MINI: 4, N: 8, GPUS: 8, NODES: 2},  # 32 responses on 16 ranks
        {BATCH: 4, MINI: 2, N: 8, GPUS: 4},  # two updates of 16
        {BATCH: 4, MINI: 4, GPUS: 4, TENSOR: 2, DATA: 2},
        {BATCH: 3, MINI: 3, N: 4, GPUS: 8, ULYSSES: 2},  # 12 responses on 4 pairs
        {ACTOR: 224, REF: 224, ROLLOUT: 224},
        {ACTOR: 112, REF: 224, ULYSSES: 2, GPUS: 2},
        {ROLLOUT: 223},  # strictly on-policy: no pass for old log-probabilities
        {REF: 223, "care.bonus": "none"},  # no reference
        {ACTOR: 223, "actor_rollout_ref.actor.use_dynamic_bsz": False},
        {ACTOR: 200, REF: 200, "actor_rollout_ref.rollout.max_model_len": 200},  # vLLM ends every row there
        {BATCH: 8, MINI: 3, ACTOR: 1, "trainer.val_only": True},  # nothing is updated
    ],
    ids=str,
)
def test_what_does(config, changes):
    put(config, "care.packing", ULYSSES not in changes)
    check(changed(config, changes))


def test_a_budget_that_others_refer_to_is_said_once(composed):
    config = composed["care_base"].copy()
    put(config, ACTOR, 17151)  # 16,384 + 768 = 17,152
    assert f"{ACTOR}=17151: a micro-batch of 17151 tokens cannot hold the 17152 of a prompt" in message(config)
    assert len(message(config).splitlines()) == 1
    put(config, ACTOR, 17152)
    check(config)
