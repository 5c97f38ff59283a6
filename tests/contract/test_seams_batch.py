"""What we rely on in verl's batches and data, a test per seam."""

import ast
import inspect
import re
from types import SimpleNamespace
from unittest import mock

import numpy as np
import torch
from verl.trainer.ppo import core_algos, padding_utils
from verl.trainer.ppo.v1 import replay_buffer, trainer_base
from verl.trainer.ppo.v1 import utils as v1_utils

from tests.contract.seams import parameters, seam, source


def test_the_replay_buffer_reads_its_interval_every_time():
    default = inspect.signature(replay_buffer.ReplayBuffer.__init__).parameters["poll_interval"].default
    seam(default == 2.0, "poll_interval=2.0", "care.replay_poll_interval_s")
    seam("time.sleep(self.poll_interval)" in source(replay_buffer.ReplayBuffer), "it sleeps that long", "the same")


def test_fields_of_compute_advantage():
    """T8: what is put into `rm_scores` before is what advantages are made of."""
    text = source(trainer_base.PPOTrainer._compute_advantage)
    fields = ast.literal_eval(re.search(r"fields = (\[.*?\])", text, re.DOTALL).group(1))
    seam({"uid", "rm_scores", "response_mask"} <= set(fields), f"the fields fetched ({fields})", "_add_bonus")
    seam('data.batch["token_level_scores"] = data.batch["rm_scores"]' in text, "rm_scores are the scores", "_add_bonus")


def test_the_estimators_arguments():
    """T9."""
    seen = {}

    def estimator(**arguments):
        seen.update(arguments)
        return torch.zeros(1, 2), torch.zeros(1, 2)

    data = SimpleNamespace(
        batch={"token_level_rewards": torch.ones(1, 2), "response_mask": torch.ones(1, 2)},
        non_tensor_batch={"uid": np.array(["a"], dtype=object)},
    )
    with mock.patch.dict(core_algos.ADV_ESTIMATOR_REGISTRY, {"spy": estimator}):
        v1_utils.compute_advantage_for_multi_trajectories(data, ["a_0_0"], adv_estimator="spy", config="the config")
    expected = {"token_level_rewards", "response_mask", "index", "config"}
    seam(set(seen) == expected, f"{expected} as arguments (now {set(seen)})", "verl_care.estimator")
    seam(seen["index"].tolist() == ["a"], "index is the uid", "verl_care.estimator")
    seam(torch.equal(data.batch["advantages"], torch.zeros(1, 2)), "its result is used", "verl_care.estimator")


def test_padding_rows():
    """T14: they have the first row's `reward_extra_info`, but a tag and a uid of their own."""
    source_row = {
        "uid": "a",
        "position_ids": torch.zeros(4, 9),
        "multi_modal_inputs": {"pixel_values": 1},
        "extra_fields": {"reward_extra_info": {"accuracy": 1.0}},
    }
    row, tag = padding_utils.construct_minimal_padding_template(source_row, {"seq_len": 9}, eos_token_id=2)
    seam(tag["is_padding"] is True, "the tag is_padding", "_add_bonus skips padding")
    seam(float(row["rm_scores"].sum()) == 0, "padding has no reward", "_add_bonus leaves it alone")
    seam(row["multi_modal_inputs"] == {}, "padding is text only", "compat._mend_visual_embedding")
    seam(tuple(row["position_ids"].shape) == (4, 128), "position ids stay 4 x L", "compat._mend_position_ids")
    seam(
        'template_sample["uid"] = pad_uid' in source(padding_utils.upsample_batch_to_divisible_size),
        "a uid of its own",
        "the group-relative advantage",
    )


def test_reward_extra_info_travels_in_extra_fields():
    from verl.experimental.agent_loop import agent_loop

    text = source(agent_loop)
    seam('extra_fields["reward_extra_info"] = result["reward_extra_info"]' in text, "extra_fields", "_add_bonus")
    seam("rm_scores[-1] = reward_score" in text, "the reward is on the last token", "_add_bonus adds it there")
    validate = source(trainer_base.PPOTrainer._validate)
    seam("reward_extra_info" in validate, "validation reads reward_extra_info", "the manager's `acc`")


def test_the_reference_scores_at_the_rollouts_temperature():
    """T14: so `CareTrainer._compute_ref_log_prob` changes it for the duration of the call."""
    text = source(trainer_base.PPOTrainer._compute_ref_log_prob)
    seam('"temperature": self.config.actor_rollout_ref.rollout.temperature' in text, "it is read there", "scoring at 1")
    seam('data["ref_log_prob"] = response_from_nested(' in text, "ref_log_prob holds response tokens", "answer spans")
    for later in ("_update_actor", "_compute_old_log_prob"):
        again = source(getattr(trainer_base.PPOTrainer, later))
        seam('"temperature": self.config.actor_rollout_ref.rollout.temperature' in again, f"{later} sets its own", "it")


def test_tags_and_keys_of_a_batch():
    seam(
        {"keys", "tags", "partition_id"} <= set(parameters(trainer_base.KVBatchMeta)),
        "KVBatchMeta(keys, tags, partition_id)",
        "_add_bonus",
    )
    import transfer_queue as tq

    seam({"keys", "partition_id", "select_fields"} <= set(parameters(tq.kv_batch_get)), "kv_batch_get", "_add_bonus")
    seam({"keys", "partition_id", "fields"} <= set(parameters(tq.kv_batch_put)), "kv_batch_put", "_add_bonus")


def test_media_are_asked_of_the_dataset_class():
    """T17: once per response."""
    from verl.experimental.agent_loop import agent_loop
    from verl.utils.dataset.rl_dataset import RLHFDataset

    from verl_care.data.dataset import CareDataset

    asked = source(agent_loop.AgentLoopBase.process_multi_modal_info)
    call = "await self.dataset_cls.process_multi_modal_info(\n"
    seam(call in asked, "the agent loop asks the dataset class", "CareDataset")
    seam("messages, image_patch_size=image_patch_size, config=self.data_config" in asked, "so", "CareDataset")
    for name in ("process_multi_modal_info", "_process_multi_modal_info"):
        theirs, ours = (parameters(getattr(kind, name)) for kind in (RLHFDataset, CareDataset))
        seam(theirs[:3] == ours == ["messages", "image_patch_size", "config"], f"{name}{tuple(ours)}", "CareDataset")
