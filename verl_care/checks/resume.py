"""Whether a run can go on from the checkpoint that it would find, known before Ray starts and a model is loaded.

Only `trainer.resume_mode=resume_path`, which names a checkpoint, goes on from one under other settings.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from verl_care.checkpoints import folders
from verl_care.checkpoints.resume import CONFIG
from verl_care.settings import CareConfig, CareConfigError, differences

PATHS = ("data.train_files", "actor_rollout_ref.model.path")
KEYS = (
    *PATHS,
    *(f"care.{name}" for name in ("bonus", "refgen_answer", "bonus_coefficient", "confidence_upper_bound")),
    *(f"care.{name}" for name in ("consistency_margin", "accuracy_threshold", "likelihood_mean", "reference")),
    *(f"care.{name}" for name in ("ref_ema_decay", "ref_ema_update_every", "kl_on", "kl_parts")),
    *(f"algorithm.{name}" for name in ("adv_estimator", "norm_adv_by_std_in_grpo", "use_kl_in_reward", "kl_penalty")),
    *(f"algorithm.{name}" for name in ("kl_ctrl", "rollout_correction.rollout_is", "rollout_correction.rollout_rs")),
    *(f"data.{name}" for name in ("train_max_samples", "train_batch_size", "shuffle", "seed", "truncation")),
    *(f"data.{name}" for name in ("max_prompt_length", "max_response_length", "filter_overlong_prompts")),
    *(f"data.{name}" for name in ("image_patch_size", "apply_chat_template_kwargs", "mm_processor_kwargs")),
    *(f"data.video.{name}" for name in ("fps", "min_frames", "max_frames", "max_pixels", "temporal_positions")),
    "data.image.max_pixels",
    *(f"actor_rollout_ref.model.{name}" for name in ("lora_rank", "lora_alpha", "target_modules")),
    *(f"actor_rollout_ref.actor.{name}" for name in ("ppo_mini_batch_size", "ppo_epochs", "shuffle")),
    *(f"actor_rollout_ref.actor.{name}" for name in ("data_loader_seed", "policy_loss", "loss_agg_mode")),
    *(f"actor_rollout_ref.actor.{name}" for name in ("clip_ratio", "clip_ratio_low", "clip_ratio_high")),
    *(f"actor_rollout_ref.actor.{name}" for name in ("clip_ratio_c", "entropy_coeff", "freeze_vision_tower")),
    *(f"actor_rollout_ref.actor.{name}" for name in ("use_kl_loss", "kl_loss_coef", "kl_loss_type")),
    *(f"actor_rollout_ref.actor.optim.{name}" for name in ("optimizer", "lr", "lr_scheduler_type", "weight_decay")),
    *(f"actor_rollout_ref.actor.optim.{name}" for name in ("lr_warmup_steps", "lr_warmup_steps_ratio", "clip_grad")),
    *(f"actor_rollout_ref.actor.optim.{name}" for name in ("betas", "min_lr_ratio", "num_cycles")),
    *(f"actor_rollout_ref.rollout.{name}" for name in ("n", "seed", "temperature", "top_p", "top_k", "ignore_eos")),
    "distillation.enabled",
)
"""What makes two starts the same training. Not its length, what it logs, saves and validates, nor what only decides
where and how fast it runs: GPUs, micro-batches, offloading, packing, decoder."""


def check(care: CareConfig, config: DictConfig) -> None:
    """Refuse to go on where it cannot work, or would be another training.

    Raises:
        CareConfigError: naming the checkpoint, what differs, and the keys that mend it.
    """
    folder = _folder(config.trainer)
    if folder is None:
        return
    problems = list(_unloadable(folder, care, config))
    if config.trainer.resume_mode == "auto":
        problems += _another_training(folder, config)
    if problems:
        raise CareConfigError("\n".join(problems))


def _folder(trainer: DictConfig) -> Path | None:
    """The complete checkpoint that a run goes on from, if any."""
    if trainer.resume_mode == "auto":
        return folders.latest_complete(trainer.default_local_dir)[0]
    return Path(trainer.resume_from_path) if trainer.resume_mode == "resume_path" else None


def _unloadable(folder: Path, care: CareConfig, config: DictConfig) -> Iterator[str]:
    trainer, mark = config.trainer, folders.mark_of(folder)
    if trainer.nnodes * trainer.n_gpus_per_node != mark.world_size:
        yield (
            f"trainer.nnodes={trainer.nnodes}, trainer.n_gpus_per_node={trainer.n_gpus_per_node}: {folder} was saved by"
            f" {mark.world_size} ranks, and each reads its own shards. Set trainer.nnodes and trainer.n_gpus_per_node"
            " as they were, or trainer.experiment_name to another for a training from the beginning."
        )
    if care.needs_reference(config) and not mark.has_reference:
        yield (
            f"care.bonus={care.bonus}, actor_rollout_ref.actor.use_kl_loss="
            f"{config.actor_rollout_ref.actor.use_kl_loss}: they need a reference, and {folder} was saved without one."
            " Set them as they were, or trainer.experiment_name to another for a training from the beginning."
        )


def _another_training(folder: Path, config: DictConfig) -> Iterator[str]:
    root = config.trainer.default_local_dir
    remedy = (
        "trainer.experiment_name (or trainer.default_local_dir) to another for a training of its own,"
        " trainer.resume_mode=disable to start anew in this folder, or trainer.resume_mode=resume_path"
        f" trainer.resume_from_path={folder} to go on from there under what is set now."
    )
    try:
        saved = OmegaConf.load(folder.parent / CONFIG)
        there = settings_of(saved)  # type: ignore[arg-type]
    except (OSError, yaml.YAMLError) as error:
        yield (
            f"trainer.default_local_dir={root}: {folder.name} is there, and no {CONFIG} that says how it was trained"
            f" ({error}). Set {remedy}"
        )
        return
    if differing := differences(there, settings_of(config)):
        lines = "".join(f"\n  {line}" for line in differing)
        yield (
            f"trainer.default_local_dir={root}: its {folder.name} is of a training with other settings:{lines}\n"
            f"Set these as they were, {remedy}"
        )


def settings_of(config: DictConfig) -> dict[str, Any]:
    """Key -> value of what makes a training the one it is."""
    chosen = {key: _plain(OmegaConf.select(config, key)) for key in KEYS}
    return chosen | {key: _found(chosen[key]) for key in PATHS}


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _found(value: Any) -> Any:
    """Files and folders that are here by their absolute paths; a list of one is that one."""
    if isinstance(value, list):
        found = [_found(path) for path in value]
        return found[0] if len(found) == 1 else found
    return os.path.abspath(value) if isinstance(value, str) and os.path.exists(value) else value
