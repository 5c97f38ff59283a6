"""`reward.num_workers=0`: the same rewards without another process, in whichever process asks."""

import asyncio
import pickle
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch
from tensordict import TensorDict
from verl import DataProto
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

from recipes.quickstart.model import build_tokenizer
from tests.unit.configs import put
from verl_care.rewards.in_process import InProcessRewards
from verl_care.trainer import CareTrainer

ANSWER = "<think>so</think>\n<answer>A</answer>"


@pytest.fixture
def with_tokenizer(config, tmp_path):
    build_tokenizer().save_pretrained(tmp_path)
    put(config, "actor_rollout_ref.model.path", str(tmp_path))
    return config


def row(response: str) -> DataProto:
    ids = torch.tensor([build_tokenizer().encode(response)])
    columns = {
        "reward_model": {"ground_truth": "<answer>A</answer>"},
        "extra_info": {"problem_type": "multiple choice", "id": "17"},
        "data_source": "seed_bench",
        "response_len": ids.shape[1],
    }
    rows = {name: np.array([value], dtype=object) for name, value in columns.items()}
    return DataProto(batch=TensorDict({"responses": ids}, batch_size=1), non_tensor_batch=rows)


def test_a_copy_in_another_process_grades_by_the_same_manager(with_tokenizer):
    handle = pickle.loads(pickle.dumps(InProcessRewards(with_tokenizer)))

    async def scores():
        return await asyncio.gather(*(handle.compute_score.remote(row(text)) for text in (ANSWER, "so A")))

    right, wrong = asyncio.run(scores())
    assert (right["reward_score"], wrong["reward_score"]) == (2.0, 0.0)  # 1 for the answer, 1 for the format
    assert (right["reward_extra_info"]["accuracy"], right["reward_extra_info"]["id"]) == (1.0, "17")


@pytest.mark.parametrize(
    ("verls", "kinds"),
    [([], [InProcessRewards]), (["a handle", "another"], [str, str])],
)
def test_verls_handles_are_kept_where_there_are_any(verls, kinds):
    trainer = object.__new__(CareTrainer)
    trainer.config = SimpleNamespace()
    with mock.patch.object(PPOTrainerSync, "get_reward_handles", return_value=verls):
        handles = trainer.get_reward_handles()
    assert kinds == [type(handle) for handle in handles]
