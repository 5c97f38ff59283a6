"""What of verl's configuration does not go with ours stops the run, and the message names the key that mends it."""

import math
from pathlib import Path

import pytest

from tests.unit.configs import message, put
from verl_care.checkpoints import folders
from verl_care.checks import check
from verl_care.settings import CareConfigError

# key in verl's part, value, part of the reason, what the message says to set
VERL_CASES = [
    ("trainer.v1.trainer_mode", "sync", "the bonus lives in the trainer `care`", "trainer.v1.trainer_mode=care"),
    ("trainer.use_v1", False, "the bonus lives in the trainer `care`", "trainer.use_v1=true"),
    ("actor_rollout_ref.rollout.n", 1, "compared with the others", "actor_rollout_ref.rollout.n to 2 or more"),
    ("actor_rollout_ref.rollout.n", "eight", "compared with the others", "actor_rollout_ref.rollout.n to 2 or more"),
    ("algorithm.adv_estimator", "gae", "group-relative", "algorithm.adv_estimator=care"),
    ("algorithm.norm_adv_by_std_in_grpo", False, "standard deviation", "algorithm.adv_estimator=grpo"),
    ("reward.reward_manager.name", "naive", "the answer span", "reward.reward_manager.name=care"),
    ("algorithm.filter_groups.enable", True, "before there is a bonus", "algorithm.filter_groups.enable=false"),
    ("custom_reward_function.path", "mine.py", "never call it", "GRADERS of verl_care/rewards/grading.py"),
    ("reward.custom_reward_function.path", "mine.py", "never call it", "Set reward.custom_reward_function.path=null"),
    ("reward.reward_model.enable", True, "from that model", "reward.reward_model.enable=false"),
    ("reward.reward_manager.source", "importlib", "the answer span", "reward.reward_manager.source=register"),
    ("actor_rollout_ref.actor.strategy", "fsdp", "needs FSDP2", "actor_rollout_ref.actor.strategy=fsdp2"),
    ("actor_rollout_ref.ref.strategy", "megatron", "needs FSDP2", "actor_rollout_ref.ref.strategy=fsdp2"),
    ("actor_rollout_ref.rollout.name", "sglang", "with vLLM only", "actor_rollout_ref.rollout.name=vllm"),
    ("actor_rollout_ref.model.lora_rank", 8, "cannot follow", "actor_rollout_ref.model.lora_rank=0"),
    ("actor_rollout_ref.model.lora.rank", 8, "cannot follow", "actor_rollout_ref.model.lora_rank=0"),
    ("actor_rollout_ref.model.lora_adapter_path", "a", "cannot follow", "actor_rollout_ref.model.lora_rank=0"),
    ("actor_rollout_ref.ref.fsdp_config.model_dtype", "bf16", "smaller than", "ref.fsdp_config.model_dtype=fp32"),
    ("actor_rollout_ref.actor.use_prefix_grouper", True, "does nothing", "actor.use_prefix_grouper=false"),
    ("actor_rollout_ref.actor.checkpoint.async_save", True, "saved with the step", "checkpoint.async_save=false"),
    ("actor_rollout_ref.actor.checkpoint.save_contents", ["model"], "without optimizer, extra", "trainer.save_freq=-1"),
    ("actor_rollout_ref.actor.checkpoint.load_contents", ["model", "optimizer"], "without extra", "load_contents"),
    ("trainer.resume_mode", "latest", "no such mode", "trainer.resume_mode to auto, disable or resume_path"),
    ("data.custom_cls.path", None, "ignores data.video and data.image", "data.custom_cls.name=CareDataset"),
    ("data.video.fps", 0, "no frame would be taken", "data.video.fps to above 0"),
    ("data.video.fps", -1.0, "no frame would be taken", "data.video.fps to above 0"),
    ("data.video.fps", math.inf, "must be a number", "data.video.fps=2.0"),
    ("data.video.fps", "two", "must be a number", "data.video.fps=2.0"),
    ("data.video.min_frames", 0, "a clip has a frame", "data.video.min_frames to at least 1"),
    ("data.video.min_frames", 18, "is below data.video.min_frames=18", "data.video.min_frames to at most"),
    ("data.video.max_frames", 2, "is below data.video.min_frames=4", "data.video.min_frames to at most"),
    ("data.video.max_frames", 16.5, "must be a whole number", "data.video.max_frames=16"),
    ("data.video.max_frames", 15, "frames in pairs, so one of them would be left out", "max_frames to an even number"),
    ("data.video.min_frames", 5, "frames in pairs, so one of them would be left out", "min_frames to an even number"),
    ("data.video.decoder", "ffmpeg", "no such choice", "data.video.decoder to auto or torchcodec or pyav or decord"),
    ("data.video.temporal_positions", "wrong", "no such choice", "temporal_positions to true or release"),
    ("data.video.temporal_positions", False, "no such choice", "temporal_positions to true or release"),
    ("data.video.timeout_s", 0, "no clip would be decoded", "data.video.timeout_s to above 0"),
    ("data.video.timeout_s", 1e9, "more than a timer can wait", "data.video.timeout_s to at most 1000000"),
    ("data.video.decode_threads", 0, "no clip would be decoded", "data.video.decode_threads to at least 1"),
    ("data.video.memory_gb", -1, "no less than nothing", "data.video.memory_gb to at least 0"),
    ("data.video.cache_gb", math.nan, "must be a number", "data.video.cache_gb=50.0"),
    ("data.video.cache_dir", 7, "is no folder", "data.video.cache_dir to a folder"),
    ("data.video.cache_dir", "", "is no folder", "null for no cache"),
    ("care.max_failed_prompts", -1, "counts prompts", "care.max_failed_prompts to 0"),
    ("data.video.max_pixels", 783, "one token covers that much", "data.video.max_pixels to at least 784"),  # 28 * 28
    ("data.image.max_pixels", 783, "one token covers that much", "data.image.max_pixels to at least 784"),
    ("data.train_files", None, "verl needs one", "data.train_files to a parquet file"),
    ("data.val_files", [], "verl needs one", "data.val_files to a parquet file"),
    ("data.val_files", ["/nowhere/a.parquet"], "no such file.", "data.val_files to your parquet file"),
    ("actor_rollout_ref.model.path", "/nowhere/model", "no such folder.", "actor_rollout_ref.model.path to a folder"),
    ("actor_rollout_ref.model.path", "model", "no such folder (looked", "actor_rollout_ref.model.path to a folder"),
]


@pytest.mark.parametrize(("key", "value", "reason", "remedy"), VERL_CASES)
def test_what_does_not_go_with_care(config, key, value, reason, remedy):
    put(config, key, value)
    text = message(config)
    assert key.rsplit(".", 1)[-1] in text
    shown = value[0] if isinstance(value, list) and value else value
    assert str(shown) in text or str(shown).lower() in text or str(value) in text
    assert reason in text
    assert remedy in text
    assert len(text.splitlines()) == 1


PACKING_CASES = [
    ("actor_rollout_ref.actor.ulysses_sequence_parallel_size", 2, "Ulysses cuts a row"),
    ("actor_rollout_ref.ref.fsdp_config.ulysses_sequence_parallel_size", 4, "Ulysses cuts a row"),
    ("actor_rollout_ref.actor.fsdp_config.pad_to_length", True, "is not padded"),
    ("actor_rollout_ref.model.use_fused_kernels", True, "the prompt's last has several"),
    ("actor_rollout_ref.rollout.agent.agent_loop_manager_class", "mine.Manager", "pixels once"),
    ("actor_rollout_ref.rollout.agent.default_agent_loop", "tool_agent", "pixels once"),
    ("distillation.enabled", True, "a teacher's logits"),
]


@pytest.mark.parametrize(("key", "value", "reason"), PACKING_CASES)
def test_what_packing_does_not_do(config, key, value, reason):
    put(config, key, value)
    text = message(config)
    assert key.rsplit(".", 1)[-1] in text
    assert reason in text
    assert "Set care.packing=false" in text
    assert len(text.splitlines()) == 1
    put(config, "care.packing", False)
    check(config)


def test_packing_in_float32_is_for_the_cpu(config):
    check(config)  # the quick start computes in it
    put(config, "trainer.device", "cuda")
    assert "mixed_precision.param_dtype=fp32: flash attention computes in bf16" in message(config)


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        ('{"model_type": "llama"}', "its model_type is llama, and packing was tried with qwen2, qwen2_5_vl, qwen2_vl,"),
        ('{"model_type": "qwen2", "use_sliding_window": true}', "sliding window"),
        ('{"model_type": "qwen3", "layer_types": ["full_attention", "sliding_attention"]}', "sliding window"),
    ],
)
def test_packing_a_model_that_was_not_tried(config, tmp_path, contents, reason):
    (tmp_path / "config.json").write_text(contents)
    put(config, "actor_rollout_ref.model.path", str(tmp_path))
    assert reason in message(config)
    put(config, "care.packing", False)
    check(config)


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("data.video.maxpixels", "Did you mean data.video.max_pixels?"),
        ("data.video.nframes", "Did you mean data.video.min_frames?"),
        ("data.image.zzz", "Known keys: max_pixels."),
    ],
)
def test_an_unknown_budget(config, key, hint):
    put(config, key, 1000)
    assert message(config) == f"{key}: no such setting, it would be ignored. {hint}"


def test_a_pixel_budget_counts_in_the_models_patches(config):
    put(config, "data.image_patch_size", 16)
    put(config, "data.image.max_pixels", 1023)
    assert "data.image.max_pixels to at least 1024" in message(config)  # (2 * 16)^2


def test_a_start_that_only_validates_would_train_without_a_validation_before(config):
    put(config, "trainer.val_only", True)
    put(config, "trainer.val_before_train", True)
    check(config)
    put(config, "trainer.val_before_train", False)
    assert "so it would train. Set trainer.val_before_train=true" in message(config)


def test_one_frame_is_no_pair(config):
    put(config, "data.video", {"min_frames": 1, "max_frames": 1})
    assert "data.video.max_frames=1: the model sees frames in pairs" in message(config)


def test_without_checkpoints_their_contents_do_not_matter(config):
    put(config, "actor_rollout_ref.actor.checkpoint.save_contents", ["model"])
    put(config, "trainer.save_freq", -1)
    check(config)


@pytest.mark.parametrize(
    "changes",
    [
        {"care.reference": "frozen", "actor_rollout_ref.ref.fsdp_config.model_dtype": "bf16"},
        {"care.bonus": "none", "actor_rollout_ref.ref.fsdp_config.model_dtype": "bf16"},  # no reference at all
        {"care.bonus": "none", "actor_rollout_ref.model.lora_rank": 8},
        {"actor_rollout_ref.ref.fsdp_config.model_dtype": "float32"},
        {"algorithm.adv_estimator": "grpo"},
        {"actor_rollout_ref.rollout.temperature": 0.7},  # sampling may; scoring may not
        {"data.video": None, "data.image": None},  # the released budgets
        {"data.video.temporal_positions": True, "data.video.memory_gb": 0, "data.video.cache_dir": "frames"},
        {"data.video.temporal_positions": "release", "data.video.decoder": "pyav"},
        {"actor_rollout_ref.actor.freeze_vision_tower": True},  # verl does nothing; our worker does it
    ],
    ids=str,
)
def test_what_does_go_with_care(config, changes):
    for key, value in changes.items():
        put(config, key, value)
    check(config)


@pytest.mark.parametrize("key", ["actor_rollout_ref.actor.use_kl_loss", "algorithm.use_kl_in_reward"])
def test_a_kl_term(config, key):
    put(config, key, True)
    assert check(config).needs_reference(config)
    put(config, "actor_rollout_ref.rollout.temperature", 0.7)
    assert "one reference pass cannot serve both" in message(config)
    put(config, "care.bonus", "none")
    assert check(config).needs_reference(config)
    # the reference of a KL-EMA baseline moves too, so it needs the same precision
    put(config, "actor_rollout_ref.ref.fsdp_config.model_dtype", "bf16")
    assert "an EMA step is smaller" in message(config)


def test_no_reference_without_bonus_and_kl(config):
    put(config, "care.bonus", "none")
    assert not check(config).needs_reference(config)


def test_relative_paths_name_where_they_were_looked_up(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    put(config, "data.train_files", "data/train.parquet")
    expected = f"data.train_files=data/train.parquet: no such file (looked up from {tmp_path}). Set data.train_files"
    assert message(config).startswith(expected)
    Path("data").mkdir()
    Path("data/train.parquet").touch()
    check(config)


@pytest.mark.parametrize(
    "path", ["Qwen/Qwen2.5-VL-7B-Instruct", "hdfs://cluster/models/qwen", "s3://bucket/model", "org_1/name-2.x"]
)
def test_models_that_are_not_on_this_disk_are_not_looked_for(config, path):
    put(config, "actor_rollout_ref.model.path", path)
    put(config, "data.train_files", "hdfs://cluster/train.parquet")
    check(config)


@pytest.mark.parametrize(
    "key",
    [
        *(f"trainer.{name}" for name in ("default_local_dir", "resume_from_path", "rollout_data_dir")),
        *("data.train_files", "data.val_files", "actor_rollout_ref.model.path"),
    ],
)
def test_a_home_that_nobody_fills_in(config, key, monkeypatch):
    """verl would make ./~/there, in every worker's own folder."""
    monkeypatch.setenv("HOME", "/home/me")
    put(config, key, ["~/there"] if key == "data.val_files" else "~/there")
    put(config, "trainer.resume_mode", "resume_path" if key == "trainer.resume_from_path" else "auto")
    assert message(config) == f"{key}=~/there: neither the shell nor verl replaces this ~. Set {key}=/home/me/there."


def test_a_home_is_said_once(config):
    put(config, "trainer.default_local_dir", "~/run")
    put(config, "trainer.validation_data_dir", "~/run/validation")  # as it is in care_base
    assert len(message(config).splitlines()) == 1


@pytest.mark.parametrize("weighing", [{"kl_on": "accurate"}, {"kl_parts": "separate"}])
def test_a_weighted_kl_term_in_a_distillation(config, weighing):
    for name, value in weighing.items():
        put(config, f"care.{name}", value)
    put(config, "care.packing", False)
    put(config, "actor_rollout_ref.actor.use_kl_loss", True)
    check(config)
    put(config, "distillation.enabled", True)
    assert "a distillation has verl's own loss, which would ignore them" in message(config)
    put(config, "care.kl_on", "all")
    put(config, "care.kl_parts", "joint")
    check(config)


@pytest.mark.parametrize("path", ["./Qwen/Model", "../Model", "/Qwen/Model", "runs/a/model"])
def test_model_folders_are_looked_for(config, path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    put(config, "actor_rollout_ref.model.path", path)
    assert f"actor_rollout_ref.model.path={path}: no such folder" in message(config)


def test_a_folder_that_is_no_model(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("org/name").mkdir(parents=True)  # exists, so it is no name of the hub
    put(config, "actor_rollout_ref.model.path", "org/name")
    expected = f"actor_rollout_ref.model.path=org/name: it has no config.json (looked up from {tmp_path})"
    assert message(config).startswith(expected)


@pytest.mark.parametrize("path", [None, "checkpoints/latest", "global_step_7/", "global_step_7"])
def test_resuming_from_what_is_no_checkpoint(config, path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "global_step_7").mkdir()
    put(config, "trainer.resume_mode", "resume_path")
    put(config, "trainer.resume_from_path", path)
    text = message(config)
    assert text.startswith(f"trainer.resume_from_path={path}: no complete checkpoint, it has no ")
    lacking = folders.MARK if path == "global_step_7" else "global_step_<step> at its end"
    assert f"{lacking} (looked up from {tmp_path}). Set trainer.resume_from_path" in text


def test_a_key_that_refers_to_nothing(config):
    put(config, "actor_rollout_ref.rollout.n", "${nowhere}")
    assert "nowhere" in message(config)


@pytest.mark.parametrize(
    ("named", "accelerator", "reason"),
    [
        (None, True, "this machine has an accelerator, which verl takes"),
        ("nvidia", False, "VERL_PLATFORM=nvidia"),
        ("cpu", True, None),
        (None, False, None),
    ],
)
def test_a_cpu_run_beside_an_accelerator(config, monkeypatch, named, accelerator, reason):
    monkeypatch.setattr("verl_care.platforms.has_accelerator", lambda: accelerator)
    monkeypatch.delenv("VERL_PLATFORM", raising=False)
    if named:
        monkeypatch.setenv("VERL_PLATFORM", named)
    if reason is None:
        check(config)
        return
    with pytest.raises(CareConfigError, match=rf"^trainer\.device=cpu: {reason}, .* VERL_PLATFORM=cpu, or care/platf"):
        check(config)
