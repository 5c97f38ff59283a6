"""A run goes on from a checkpoint of its own training, or says what is another's, before Ray starts."""

from __future__ import annotations

import os

import pytest
from omegaconf import OmegaConf, open_dict

from tests.unit.configs import put
from tests.unit.test_checkpoints import save
from verl_care import launch
from verl_care.checks.resume import check, settings_of
from verl_care.settings import CareConfig, CareConfigError

LR = "actor_rollout_ref.actor.optim.lr"


@pytest.fixture
def begun(config, tmp_path):
    """A run of two ranks that has saved step 4, as the trainer leaves it; and its configuration."""
    put(config, "trainer.default_local_dir", str(tmp_path))
    put(config, "trainer.n_gpus_per_node", 2)
    saved = config.copy()
    with open_dict(saved):  # what trainer and verl write into theirs
        saved.trainer.v1.trainer_mode = "sync"
        saved.trainer.resume_mode, saved.trainer.resume_from_path = "resume_path", str(tmp_path / "global_step_2")
        saved.algorithm.rollout_correction = None
        saved.actor_rollout_ref.actor.optim.total_training_steps = 80
        saved.data.gen_batch_size = 1
    OmegaConf.save(saved, tmp_path / "config.yaml", resolve=True)
    save(tmp_path, 4)
    return config


def refused(config):
    with pytest.raises(CareConfigError) as caught:
        check(CareConfig.from_config(config), config)
    return str(caught.value)


def passes(config):
    check(CareConfig.from_config(config), config)


def test_the_same_command_goes_on(begun):
    passes(begun)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("trainer.total_training_steps", 1000),
        ("trainer.total_epochs", 3),
        ("trainer.save_freq", 7),
        ("trainer.test_freq", 7),
        ("trainer.logger", ["console"]),
        ("trainer.max_actor_ckpt_to_keep", -1),
        ("data.val_files", "/elsewhere"),
        ("care.packing", False),
        ("care.groups_per_step", 0),
        ("care.consistency_measures", []),
        ("actor_rollout_ref.actor.ppo_max_token_len_per_gpu", 4096),
        ("actor_rollout_ref.actor.fsdp_config.optimizer_offload", True),
        ("actor_rollout_ref.rollout.gpu_memory_utilization", 0.7),
    ],
)
def test_what_may_differ(begun, key, value):
    put(begun, key, value)
    passes(begun)


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("care.bonus", "dense", "care.bonus: hard there, dense now"),
        ("care.consistency_margin", 0.01, "care.consistency_margin: 0.0 there, 0.01 now"),
        (LR, 1e-6, f"{LR}: 5e-05 there, 1e-06 now"),
        ("data.train_batch_size", 4, "data.train_batch_size: 8 there, 4 now"),
        ("data.seed", 1, "data.seed: 42 there, 1 now"),
        ("data.video.max_frames", 8, "data.video.max_frames: 16 there, 8 now"),
        ("actor_rollout_ref.model.path", "Qwen/Another", "there, Qwen/Another now"),
        ("actor_rollout_ref.rollout.n", 4, "actor_rollout_ref.rollout.n: 8 there, 4 now"),
        ("actor_rollout_ref.actor.kl_loss_coef", 0.04, "kl_loss_coef: 0.001 there, 0.04 now"),
        ("algorithm.adv_estimator", "grpo", "algorithm.adv_estimator: care there, grpo now"),
    ],
)
def test_what_makes_it_another_training(begun, tmp_path, key, value, line):
    put(begun, key, value)
    text = refused(begun)
    first, differing, remedies = text.splitlines()
    assert first == f"trainer.default_local_dir={tmp_path}: its global_step_4 is of a training with other settings:"
    assert differing.startswith(f"  {key}: ")
    assert differing.endswith(line)
    for remedy in (
        "trainer.experiment_name (or trainer.default_local_dir) to another",
        "trainer.resume_mode=disable to start anew",
        f"trainer.resume_mode=resume_path trainer.resume_from_path={tmp_path}/global_step_4 to go on from there",
    ):
        assert remedy in remedies
    put(begun, "trainer.resume_mode", "resume_path")
    put(begun, "trainer.resume_from_path", f"{tmp_path}/global_step_4")
    passes(begun)
    put(begun, "trainer.resume_mode", "disable")
    passes(begun)


def test_every_difference_is_named(begun):
    """The recipe, and then the same command with care/method=grpo."""
    put(begun, "care", {**begun.care, "bonus": "none", "reference": "frozen"})
    put(begun, "actor_rollout_ref.actor.use_kl_loss", True)
    keys = [line.strip().partition(":")[0] for line in refused(begun).splitlines()[1:-1]]
    assert keys == ["actor_rollout_ref.actor.use_kl_loss", "care.bonus", "care.reference"]


def test_the_same_file_by_another_name(begun):
    begun.data.train_files = [os.path.relpath(begun.data.train_files)]
    passes(begun)


def test_it_compares_something(config):
    missing = [key for key, value in settings_of(config).items() if value is None]
    assert len(missing) < 10, missing  # keys that verl renames would be None on both sides


@pytest.mark.parametrize("content", [None, "care: ["])
def test_a_checkpoint_that_nothing_tells_of(begun, tmp_path, content):
    (tmp_path / "config.yaml").unlink()
    if content:
        (tmp_path / "config.yaml").write_text(content)
    assert "global_step_4 is there, and no config.yaml that says how it was trained" in refused(begun)
    (tmp_path / "global_step_4" / "data.pt").unlink()
    passes(begun)  # nothing is gone on from


@pytest.mark.parametrize("mode", ["auto", "resume_path"])
def test_another_number_of_ranks(begun, tmp_path, mode):
    put(begun, "trainer.resume_mode", mode)
    put(begun, "trainer.resume_from_path", f"{tmp_path}/global_step_4")
    put(begun, "trainer.nnodes", 2)
    text = refused(begun)
    assert text.startswith(
        f"trainer.nnodes=2, trainer.n_gpus_per_node=2: {tmp_path}/global_step_4 was saved by 2 ranks"
    )
    assert len(text.splitlines()) == 1


def test_a_reference_that_was_not_saved(begun, tmp_path):
    save(tmp_path, 6, has_reference=False)
    put(begun, "trainer.resume_mode", "resume_path")
    put(begun, "trainer.resume_from_path", f"{tmp_path}/global_step_6")
    assert f"they need a reference, and {tmp_path}/global_step_6 was saved without one" in refused(begun)
    put(begun, "care.bonus", "none")
    passes(begun)
    put(begun, "trainer.resume_from_path", f"{tmp_path}/global_step_4")
    passes(begun)  # one that is not needed is left there


def test_the_launch_stops_it(begun, capsys):
    put(begun, LR, 1.0)
    with pytest.raises(SystemExit) as stopped:
        launch.CareRun().on_job_start(begun)
    assert stopped.value.code == 2
    assert f"{LR}: 5e-05 there, 1.0 now" in capsys.readouterr().err
