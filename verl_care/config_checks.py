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

from omegaconf import DictConfig, ListConfig

from verl_care import platforms

if TYPE_CHECKING:
    from verl_care.settings import CareConfig

HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+")
"""A model of the hub: OWNER/NAME."""


def conflicts(care: CareConfig, config: DictConfig) -> Iterator[str]:
    """One line for each thing in verl's part of `config` that would not train what it says."""
    from verl_care.data import checks as media_checks

    yield from _platform(config)
    yield from _method(care, config)
    yield from _engines(care, config)
    if care.packing:
        yield from _packing(config)
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
    manager = config.reward.reward_manager
    if manager.name != "care" or manager.source != "register":
        yield (
            f"reward.reward_manager.name={manager.name}, source={manager.source}: the bonus needs the answer span that"
            " the manager `care` reports. Set reward.reward_manager.name=care reward.reward_manager.source=register."
        )
    if config.reward.num_workers < 1 and config.reward.reward_model.enable:
        yield (
            f"reward.num_workers={config.reward.num_workers} with reward.reward_model.enable=true: a reward model is"
            " asked by reward workers. Set reward.num_workers to 1 or more."
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
    if care.kl_parts == "separate" and actor.loss_agg_mode != "seq-mean-token-mean":
        yield (
            f"actor_rollout_ref.actor.loss_agg_mode={actor.loss_agg_mode} with care.kl_parts=separate: a mean over the"
            " reasoning and one over the answer exist only where each response has a mean of its own."
            " Set actor_rollout_ref.actor.loss_agg_mode=seq-mean-token-mean, or care.kl_parts=joint."
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


def _packing(config: DictConfig) -> Iterator[str]:
    """What the packed engine does not do; each goes with care.packing=false."""
    from verl_care.packing import architectures

    actor_rollout_ref = config.actor_rollout_ref
    model = actor_rollout_ref.model
    found: list[tuple[str, Any, str]] = []
    for role in ("actor", "ref"):
        engine = actor_rollout_ref[role].fsdp_config
        for node, key in ((actor_rollout_ref[role], role), (engine, f"{role}.fsdp_config")):
            size = node.get("ulysses_sequence_parallel_size", 1)
            if size != 1:
                why = "Ulysses cuts a row where its groups are not"
                found.append((f"{key}.ulysses_sequence_parallel_size", size, why))
        if engine.get("pad_to_length", False):
            found.append((f"{role}.fsdp_config.pad_to_length", True, "a packed row is not padded"))
        precision = (engine.get("mixed_precision") or {}).get("param_dtype", "bf16")
        if config.trainer.device == "cuda" and precision in ("fp32", "float32"):
            key = f"{role}.fsdp_config.mixed_precision.param_dtype"
            found.append((key, precision, "flash attention computes in bf16 or fp16"))
    if model.get("use_fused_kernels", False):
        why = "verl's fused kernels want one next token per place, and the prompt's last has several"
        found.append(("model.use_fused_kernels", True, why))
    for key, value, why in found:
        yield (
            f"actor_rollout_ref.{key}={value}: {why}. Set care.packing=false, or leave actor_rollout_ref.{key} as it is"
            " in care_base."
        )
    agent = actor_rollout_ref.rollout.agent
    loop, manager = agent.default_agent_loop, agent.get("agent_loop_manager_class")
    if loop not in ("care", "single_turn_agent") or manager:
        yield (
            f"actor_rollout_ref.rollout.agent.default_agent_loop={loop}, agent_loop_manager_class={manager}: packing"
            " stores a prompt's pixels once, which the loop `care` and its manager do. Set care.packing=false, or"
            " default_agent_loop=care and agent_loop_manager_class=null."
        )
    if (config.get("distillation") or {}).get("enabled"):
        yield "distillation.enabled=true: a teacher's logits are not packed. Set care.packing=false."
    problem = architectures.problem_of_folder(Path(str(model.path)).expanduser())
    if problem:
        yield f"actor_rollout_ref.model.path={model.path}: {problem}. Set care.packing=false."


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
    elif trainer.resume_mode == "resume_path":
        path = str(trainer.resume_from_path)
        missing = missing_files(path) if re.search(r"global_step_\d+$", path) else ["global_step_<step> at its end"]
        if missing:
            yield (
                f"trainer.resume_from_path={path}: no complete checkpoint, it has no {', '.join(missing[:3])}"
                f"{_looked_up(path)}. Set trainer.resume_from_path to another folder, or trainer.resume_mode=auto for"
                " the newest complete one."
            )


def _paths(config: DictConfig) -> Iterator[str]:
    for key in ("train_files", "val_files"):
        value = config.data[key]
        files = list(value) if isinstance(value, ListConfig) else [value]
        if not value:
            yield f"data.{key}={value}: verl needs one. Set data.{key} to a parquet file, or a list of them."
        for file in files if value else ():
            if "://" not in str(file) and not Path(str(file)).expanduser().exists():
                yield f"data.{key}={file}: no such file{_looked_up(file)}. Set data.{key} to your parquet file."

    model = str(config.actor_rollout_ref.model.path)
    folder = Path(model).expanduser()
    if "://" in model or (HUB_NAME.fullmatch(model) and not folder.exists()):
        return
    if not (folder / "config.json").is_file():
        found = "it has no config.json" if folder.is_dir() else "no such folder"
        yield (
            f"actor_rollout_ref.model.path={model}: {found}{_looked_up(model)}."
            " Set actor_rollout_ref.model.path to a folder with a model, or to a name of the hub such as"
            " Qwen/Qwen2.5-VL-7B-Instruct."
        )


def _looked_up(path: Any) -> str:
    return "" if Path(str(path)).expanduser().is_absolute() else f" (looked up from {Path.cwd()})"
