"""What we rely on in verl's trainer, its checkpoints and its loggers, a test per seam."""

import re
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from omegaconf import OmegaConf
from verl.trainer.ppo import utils as ppo_utils
from verl.trainer.ppo.v1 import trainer_base
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.utils import tracking

from tests.contract.seams import in_order, parameters, seam, source
from verl_care.checkpoints import folders
from verl_care.checkpoints.saving import WholeCheckpoints
from verl_care.trainer import CareTrainer
from verl_care.validation import MeasuredValidation
from verl_care.worker_fields import LeanPasses

# ---------------------------------------------------------------- hooks

HOOKS = {
    "__init__": ["self", "config"],
    "_build_replay_buffer": ["self"],
    "_init_resource_pool_mgr": ["self"],
    "get_reward_handles": ["self"],
    "fit": ["self", "agent_loop_manager"],
    "prepare_step": ["self"],
    "_add_prompts_to_generate": ["self", "num_prompts"],
    "_validate": ["self"],
    "_val_metrics_update": [
        "self",
        "data_sources",
        "sample_uids",
        "reward_extra_infos_dict",
        "sample_turns",
        "expected_acc_counts",
    ],
    "_compute_old_log_prob": ["self", "batch", "metrics"],
    "_balance_batch": ["self", "batch", "metrics", "logging_prefix", "keep_minibatch"],
    "_compute_ref_log_prob": ["self", "batch", "metrics"],
    "_compute_advantage": ["self", "batch", "metrics"],
    "_update_actor": ["self", "batch", "metrics"],
    "_compute_metrics": ["self", "batch", "metrics", "timing_raw", "global_steps", "epoch"],
    "on_init_end": ["self"],
    "on_sample_end": ["self"],
    "on_step_end": ["self"],
    "_save_checkpoint": ["self"],
    "_load_checkpoint": ["self"],
}


@pytest.mark.parametrize("hook", sorted(HOOKS))
def test_hooks_keep_their_signature(hook):
    found = parameters(getattr(PPOTrainerSync, hook, lambda: None))
    seam(found == HOOKS[hook], f"PPOTrainer.{hook}{tuple(HOOKS[hook])} (it is {tuple(found)})", f"CareTrainer.{hook}")


def test_every_hook_we_override_is_listed():
    theirs = {name for kind in PPOTrainerSync.__mro__ for name in vars(kind)} - set(vars(object))
    ours = {name for kind in (CareTrainer, MeasuredValidation, WholeCheckpoints, LeanPasses) for name in vars(kind)}
    overridden = {name for name in ours if name in theirs and callable(getattr(CareTrainer, name))}
    assert overridden - {"__init__"} == set(HOOKS) - {"__init__"}


def test_the_steps_of_a_step():
    """The bonus needs reference scores, and comes before advantages; the reference moves after the update."""
    step = source(trainer_base.PPOTrainer._step_once)
    order = (
        "_balance_batch(",
        "_compute_old_log_prob(",
        "_compute_ref_log_prob(",
        "_compute_advantage(",
        "_update_actor(",
    )
    seam(in_order(step, *order), f"the order {order}", "CareTrainer's hooks")
    condition = step.split("batch = self._compute_ref_log_prob")[0].rsplit("if ", 1)[1]
    seam(condition.startswith("self.use_reference_policy:"), "use_reference_policy decides", "scores without KL")


def test_the_checkpoint_is_written_before_the_weight_sync():
    """T1: an EMA in `on_step_end` would be missing from that step's checkpoint."""
    seam(
        in_order(source(trainer_base.PPOTrainer.fit), "self.step(", "self._save_checkpoint()", "self.on_step_end()"),
        "step, checkpoint, on_step_end",
        "the EMA in CareTrainer._update_actor",
    )
    for hook in ("on_init_end", "on_step_end"):
        called = source(getattr(PPOTrainerSync, hook))
        seam("checkpoint_manager.update_weights(" in called, f"{hook} syncs the weights", "weight_sync_timeout_s")


def test_sync_is_a_literal():
    """T2: `CareTrainer.__init__` puts "sync" back before verl's runs."""
    found = re.findall(r'trainer_mode [!=]= "sync"', source(trainer_base))
    seam(len(found) == 6, f"six comparisons with the literal 'sync' (now {len(found)})", "CareTrainer.__init__")
    init = source(trainer_base.PPOTrainer.__init__)
    seam("self.trainer_mode = self.config.trainer.v1.trainer_mode" in init, "the mode is read there", "the same")
    seam("self.use_reference_policy = need_reference_policy(" in init, "use_reference_policy is set there", "the same")


def test_verl_wants_a_reference_only_for_kl():
    """T11."""
    for loss, reward in ((False, False), (True, False), (False, True)):
        config = OmegaConf.create(
            {"algorithm": {"use_kl_in_reward": reward}, "actor_rollout_ref": {"actor": {"use_kl_loss": loss}}}
        )
        seam(ppo_utils.need_reference_policy(config) == (loss or reward), "a reference only for KL", "needs_reference")


# ---------------------------------------------------------------- checkpoints


def test_names_of_a_checkpoints_files():
    """test_resume.py has verl write them; this says which line changed if it fails there."""
    from verl.utils.checkpoint import fsdp_checkpoint_manager

    text = source(fsdp_checkpoint_manager.FSDPCheckpointManager.save_checkpoint)
    for part in ("model", "optim", "extra_state"):
        name = f'f"{part}_world_size_{{self.world_size}}_rank_{{self.rank}}.pt"'
        seam(name in text, f"the file {name}", "checkpoints.missing_files")
    save = source(trainer_base.PPOTrainer._save_checkpoint)
    for name in ('f"global_step_{self.global_steps}"', '"actor"', '"data.pt"'):
        seam(name in save, f"the name {name}", "checkpoints.missing_files")
    order = ("actor_rollout_wg.save_checkpoint(", "data.pt", '"latest_checkpointed_iteration.txt"')
    seam(in_order(save, *order), "latest_checkpointed_iteration.txt comes last (T13)", "the mark behind it")
    seam(folders.step_of(Path("global_step_7")) == 7, "step_of", "resuming")


def test_resuming_from_a_path():
    text = source(trainer_base.PPOTrainer._load_checkpoint)
    order = ('resume_mode == "resume_path"', "resume_from_path", 'split("global_step_")[-1]', "_wg.load_checkpoint(")
    seam(
        in_order(text, *order), "resume_path takes the step from the folder's name", "WholeCheckpoints._load_checkpoint"
    )


def test_how_many_checkpoints_verl_keeps():
    save = source(trainer_base.PPOTrainer._save_checkpoint)
    for key in ('get("max_actor_ckpt_to_keep", None)', 'get("remove_previous_ckpt_in_save", False)'):
        seam(f"self.config.trainer.{key}" in save, f"trainer.{key} is read there", "WholeCheckpoints._save_checkpoint")
    from verl.utils.checkpoint.checkpoint_manager import BaseCheckpointManager

    keeping = source(BaseCheckpointManager.register_checkpoint)
    seam("max_ckpt_to_keep > 0" in keeping, "a number below 1 keeps all", "WholeCheckpoints._keep")


def test_which_sizes_divide_others():
    from verl.workers import engine_workers

    update = source(engine_workers.TrainingWorker.train_mini_batch)
    divides = "mini_batch_size % self.engine.get_data_parallel_size() == 0"
    seam(divides in update, "ranks divide the responses of an update", "checks.sizes._updates")
    servers = source(engine_workers.ActorRolloutRefWorker.init_model)
    seam("self.world_size % infer_world_size == 0" in servers, "servers divide the ranks", "checks.sizes._servers")
    padding = source(trainer_base.PPOTrainer._balance_batch)
    seam("upsample_batch_to_divisible_size(" in padding, "a batch is filled up", "checks.sizes._updates")


# ---------------------------------------------------------------- logging


def test_the_progress_bar_can_be_found():
    from tqdm import tqdm

    seam('desc="Training Progress"' in source(trainer_base.PPOTrainer.fit), "its name", "_compute_metrics' postfix")
    seam(trainer_base.tqdm is tqdm, "it is tqdm's own", "the same")
    with tqdm(total=1, desc="Training Progress", disable=False, file=mock.MagicMock()) as bar:
        seam(bar in tqdm._instances, "tqdm._instances lists open bars", "the same")


def test_loggers_take_their_places_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("VERL_FILE_LOGGER_PATH", str(tmp_path / "metrics.jsonl"))
    logger = tracking.FileLogger("project", "experiment")
    logger.log({"care/bonus": np.float32(0.25)}, step=3)
    logger.finish()
    expected = '{"step":3,"data":{"care/bonus":0.25}}\n'
    seam((tmp_path / "metrics.jsonl").read_text() == expected, "VERL_FILE_LOGGER_PATH, its lines", "CareTrainer.fit")
    tracking.FileLogger("project", "experiment").finish()
    seam((tmp_path / "metrics.jsonl").read_text() == "", "it starts its file anew", "fit moves an earlier one away")
    text = source(tracking._TensorboardAdapter)
    seam('os.environ.get("TENSORBOARD_DIR"' in text, "TENSORBOARD_DIR", "CareTrainer.fit")
