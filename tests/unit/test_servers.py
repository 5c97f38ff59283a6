"""What vLLM's servers are told where verl leaves it open."""

import json

import pytest
from omegaconf import OmegaConf

from tests.unit.configs import put
from verl_care import servers


@pytest.mark.parametrize(
    ("given", "positions", "length", "at_once"),
    [
        (None, None, 17152, 16384),  # 16384 + 768
        (None, {"max_position_embeddings": 128000}, 17152, 16384),
        (None, {"text_config": {"max_position_embeddings": 4096}}, 4096, 16384),  # as of the miniature
        (20000, {"max_position_embeddings": 128000}, 20000, 8192),
    ],
)
def test_the_longest_prompt_and_its_response(composed, tmp_path, given, positions, length, at_once):
    config = composed["care_base"].copy()
    put(config, "actor_rollout_ref.rollout.max_model_len", given)
    rollout = config.actor_rollout_ref.rollout
    if positions is not None:
        (tmp_path / "config.json").write_text(json.dumps(positions))
    servers.fit_length(rollout, tmp_path)
    assert (config.data.max_prompt_length, config.data.max_response_length) == (16384, 768)
    assert rollout.max_model_len == length
    # a clip may have as many tokens as its prompt; 8192 are verl's
    assert rollout.max_num_batched_tokens == at_once


@pytest.mark.parametrize(("temperature", "mode"), [(1.0, "raw_logprobs"), (0.7, "processed_logprobs")])
def test_the_gap_to_the_rollout_is_over_the_whole_vocabulary(temperature, mode):
    rollout = OmegaConf.create({"temperature": temperature, "logprobs_mode": "processed_logprobs", "top_p": 0.95})
    servers.log_whole_distribution(rollout)
    assert rollout.logprobs_mode == mode
