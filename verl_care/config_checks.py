"""Settings of verl that do not go with CARE: what verl would accept, and then train something else or stop late.

Each check is a line of text that says what was found, why it is wrong and which key mends it.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from verl_care import platforms

if TYPE_CHECKING:
    from verl_care.settings import CareConfig

FOLDERS = ("default_local_dir", "resume_from_path", "validation_data_dir", "rollout_data_dir")
"""Of `trainer`; the last two are most often inside the first."""
HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+")
"""A model of the hub: OWNER/NAME."""


def conflicts(care: CareConfig, config: DictConfig) -> Iterator[str]:
    """One line for each thing in verl's part of `config` that would not train what it says."""
    from verl_care import packing_checks, size_checks
    from verl_care.data import checks as media_checks

    yield from _platform(config)
    yield from _method(care, config)
    yield from _rewards(config)
    yield from _engines(care, config)
    yield from size_checks.problems(care, config)
    if care.packing:
        yield from packing_checks.problems(config)
    yield from _checkpoints(config)
    yield from media_checks.problems(config.data)
    yield from _paths(config)


def uses_kl(config: DictConfig) -> bool:
    """True if verl itself asks for a reference model."""
    return bool(config.actor_rollout_ref.actor.use_kl_loss or config.algorithm.use_kl_in_reward)


def unknown_key(node: str, key: str, known: Iterable[str]) -> str:
    """What to say of a key that is no setting of `node`."""
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"Did you mean {node}.{near[0]}?" if near else f"Known keys: {', '.join(known)}."
    return f"{node}.{key}: no such setting, it would be ignored. {hint}"


def is_number(value: Any) -> bool:
    """True for a real number; a truth value is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _platform(config: DictConfig) -> Iterator[str]:
    if config.trainer.device == "cpu" and not platforms.wants_cpu():
        named = os.environ.get("VERL_PLATFORM")
        found = f"VERL_PLATFORM={named}" if named else "this machine has an accelerator, which verl takes"
        yield (
            f"trainer.device=cpu: {found}, so nothing here trains on the CPU. Set the environment variable"
            " VERL_PLATFORM=cpu, or care/platform=gpu to train on the accelerator."
        )


def _method(care: CareConfig, config: DictConfig) -> Iterator[str]:
    rollout, v1 = config.actor_rollout_ref.rollout, config.trainer.v1
    if v1.trainer_mode not in ("care", "care_evaluate") or not config.trainer.use_v1:
        yield (
            f"trainer.v1.trainer_mode={v1.trainer_mode}, trainer.use_v1={config.trainer.use_v1}:"
            " the bonus lives in the trainer `care`. Set trainer.v1.trainer_mode=care trainer.use_v1=true."
        )
    if not is_number(rollout.n) or rollout.n < 2:
        yield (
            f"actor_rollout_ref.rollout.n={rollout.n}: a response is compared with the others of its prompt."
            " Set actor_rollout_ref.rollout.n to 2 or more (the release: 8)."
        )
    if config.algorithm.adv_estimator not in ("care", "grpo"):
        yield (
            f"algorithm.adv_estimator={config.algorithm.adv_estimator}: CARE's advantage is group-relative."
            " Set algorithm.adv_estimator=care (or grpo, verl's own, with epsilon 1e-6)."
        )
    if config.algorithm.adv_estimator == "care" and not config.algorithm.get("norm_adv_by_std_in_grpo", True):
        yield (
            "algorithm.norm_adv_by_std_in_grpo=false: the estimator `care` divides by the group's standard deviation,"
            " as the release does. Leave it true, or set algorithm.adv_estimator=grpo for advantages without it."
        )
    if (config.algorithm.get("filter_groups") or {}).get("enable"):
        yield (
            "algorithm.filter_groups.enable=true: verl drops groups whose rewards are all the same before there is a"
            " bonus to tell them apart, and each one that it replaces would count as a failed prompt. Set"
            " algorithm.filter_groups.enable=false."
        )
    if rollout.temperature != 1 and uses_kl(config) and care.bonus != "none":
        yield (
            f"actor_rollout_ref.rollout.temperature={rollout.temperature} with a KL term and a bonus: one reference"
            " pass cannot serve both. Set actor_rollout_ref.rollout.temperature=1, or care.bonus=none."
        )
    actor = config.actor_rollout_ref.actor
    if care.weighs_kl and not actor.use_kl_loss:
        yield (
            f"care.kl_on={care.kl_on}, care.kl_parts={care.kl_parts}: there is no KL term to apply them to."
            " Set actor_rollout_ref.actor.use_kl_loss=true, or care.kl_on=all care.kl_parts=joint."
        )
    if care.weighs_kl and (config.get("distillation") or {}).get("enabled"):
        yield (
            f"care.kl_on={care.kl_on}, care.kl_parts={care.kl_parts} with distillation.enabled=true: a distillation has"
            " verl's own loss, which would ignore them. Set distillation.enabled=false, or care.kl_on=all"
            " care.kl_parts=joint."
        )
    if care.kl_parts == "separate" and actor.loss_agg_mode != "seq-mean-token-mean":
        yield (
            f"actor_rollout_ref.actor.loss_agg_mode={actor.loss_agg_mode} with care.kl_parts=separate: a mean over the"
            " reasoning and one over the answer exist only where each response has a mean of its own."
            " Set actor_rollout_ref.actor.loss_agg_mode=seq-mean-token-mean, or care.kl_parts=joint."
        )


def _rewards(config: DictConfig) -> Iterator[str]:
    manager = config.reward.reward_manager
    if manager.name != "care" or manager.source != "register":
        yield (
            f"reward.reward_manager.name={manager.name}, source={manager.source}: the bonus needs the answer span that"
            " the manager `care` reports. Set reward.reward_manager.name=care reward.reward_manager.source=register."
        )
    if config.reward.reward_model.enable:
        yield (
            "reward.reward_model.enable=true: verl would then take the rewards from that model, and never call the"
            " manager `care`. Set reward.reward_model.enable=false."
        )
    for key in ("custom_reward_function.path", "reward.custom_reward_function.path"):
        path = OmegaConf.select(config, key)
        if path:
            yield (
                f"{key}={path}: the manager `care` would never call it. A rule of yours is a function and a line in"
                f" GRADERS of verl_care/rewards/grading.py, for rows with its extra_info.problem_type. Set {key}=null."
            )


def _engines(care: CareConfig, config: DictConfig) -> Iterator[str]:
    actor, ref, rollout, model = (config.actor_rollout_ref[name] for name in ("actor", "ref", "rollout", "model"))
    follows = care.needs_reference(config) and care.reference == "ema"
    for role, strategy in (("actor", actor.strategy), ("ref", ref.strategy)):
        if strategy != "fsdp2":
            yield (
                f"actor_rollout_ref.{role}.strategy={strategy}: the reference follows the policy shard by shard, which"
                f" needs FSDP2 on both sides. Set actor_rollout_ref.{role}.strategy=fsdp2."
            )
    if rollout.name != "vllm":
        yield (
            f"actor_rollout_ref.rollout.name={rollout.name}: video prompts were tried with vLLM only."
            " Set actor_rollout_ref.rollout.name=vllm."
        )
    if rollout.agent.default_agent_loop == "single_turn_agent":
        yield (
            "actor_rollout_ref.rollout.agent.default_agent_loop=single_turn_agent: it hands vLLM no sampling times, and"
            " every clip looks as if sampled at 24 frames a second."
            " Set actor_rollout_ref.rollout.agent.default_agent_loop=care."
        )
    lora = [model.get("lora_rank", 0), model.get("lora", {}).get("rank", 0), model.get("lora_adapter_path")]
    if any(lora) and care.needs_reference(config):
        yield (
            f"actor_rollout_ref.model.lora_rank={lora[0]}, lora.rank={lora[1]}, lora_adapter_path={lora[2]}: with LoRA"
            " verl's reference is the base model itself, which cannot follow the policy."
            " Set actor_rollout_ref.model.lora_rank=0 and leave the others unset."
        )
    if ref.fsdp_config.model_dtype not in ("fp32", "float32") and follows:
        yield (
            f"actor_rollout_ref.ref.fsdp_config.model_dtype={ref.fsdp_config.model_dtype}: an EMA step is smaller than"
            " this type can hold. Set actor_rollout_ref.ref.fsdp_config.model_dtype=fp32 (the forward pass still runs"
            " in mixed precision), or care.reference=frozen."
        )
    if actor.get("use_prefix_grouper", False):
        yield (
            "actor_rollout_ref.actor.use_prefix_grouper=true: verl 0.9.1's V1 trainer accepts it and does nothing."
            " Set actor_rollout_ref.actor.use_prefix_grouper=false."
        )


def _checkpoints(config: DictConfig) -> Iterator[str]:
    from verl_care.checkpoints import missing_files

    trainer, checkpoint = config.trainer, config.actor_rollout_ref.actor.checkpoint
    if checkpoint.get("async_save", False):
        yield (
            "actor_rollout_ref.actor.checkpoint.async_save=true: the reference is saved with the step, so the actor"
            " must be too. Set actor_rollout_ref.actor.checkpoint.async_save=false."
        )
    for key in ("save_contents", "load_contents"):
        lacking = [part for part in ("model", "optimizer", "extra") if part not in checkpoint[key]]
        if lacking and trainer.save_freq > 0:
            yield (
                f"actor_rollout_ref.actor.checkpoint.{key}={list(checkpoint[key])}: without {', '.join(lacking)} a"
                f" killed run cannot go on where it was. Set actor_rollout_ref.actor.checkpoint.{key} to hold model,"
                " optimizer and extra, or trainer.save_freq=-1 for no checkpoints."
            )
    if trainer.resume_mode not in ("auto", "disable", "resume_path"):
        yield (
            f"trainer.resume_mode={trainer.resume_mode}: verl knows no such mode, and would stop once every model is"
            " loaded. Set trainer.resume_mode to auto, disable or resume_path."
        )
    elif trainer.resume_mode == "resume_path" and not _from_home(trainer.resume_from_path):
        path = str(trainer.resume_from_path)
        missing = missing_files(path) if re.search(r"global_step_\d+$", path) else ["global_step_<step> at its end"]
        if missing:
            yield (
                f"trainer.resume_from_path={path}: no complete checkpoint, it has no {', '.join(missing[:3])}"
                f"{_looked_up(path)}. Set trainer.resume_from_path to another folder, or trainer.resume_mode=auto for"
                " the newest complete one."
            )


def _paths(config: DictConfig) -> Iterator[str]:
    trainer, root = config.trainer, str(config.trainer.default_local_dir)
    for key in FOLDERS:
        folder = trainer.get(key)
        if _from_home(folder) and not folder.startswith(f"{root}/"):
            yield _not_expanded(f"trainer.{key}", folder)
    for key in ("train_files", "val_files"):
        value = config.data[key]
        files = list(value) if isinstance(value, ListConfig) else [value]
        if not value:
            yield f"data.{key}={value}: verl needs one. Set data.{key} to a parquet file, or a list of them."
        for file in files if value else ():
            if _from_home(file):
                yield _not_expanded(f"data.{key}", file)
            elif "://" not in str(file) and not Path(str(file)).exists():
                yield f"data.{key}={file}: no such file{_looked_up(file)}. Set data.{key} to your parquet file."

    model = str(config.actor_rollout_ref.model.path)
    folder = Path(model)
    if _from_home(model):
        yield _not_expanded("actor_rollout_ref.model.path", model)
        return
    if "://" in model or (HUB_NAME.fullmatch(model) and not folder.exists()):
        return
    if not (folder / "config.json").is_file():
        found = "it has no config.json" if folder.is_dir() else "no such folder"
        yield (
            f"actor_rollout_ref.model.path={model}: {found}{_looked_up(model)}."
            " Set actor_rollout_ref.model.path to a folder with a model, or to a name of the hub such as"
            " Qwen/Qwen2.5-VL-7B-Instruct."
        )


def _from_home(path: Any) -> bool:
    return isinstance(path, str) and path.startswith("~")


def _not_expanded(key: str, path: str) -> str:
    """A shell expands ~ at the beginning of a word, which an override's value is not; verl never does."""
    return f"{key}={path}: neither the shell nor verl replaces this ~. Set {key}={os.path.expanduser(path)}."


def _looked_up(path: Any) -> str:
    return "" if Path(str(path)).is_absolute() else f" (looked up from {Path.cwd()})"
