"""What the packed engine does not do; each goes with care.packing=false."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from verl_care.packing import architectures


def problems(config: DictConfig) -> Iterator[str]:
    """One line for each setting that packing cannot serve."""
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
    problem = architectures.problem_of_folder(Path(str(model.path)))
    if problem:
        yield f"actor_rollout_ref.model.path={model.path}: {problem}. Set care.packing=false."
