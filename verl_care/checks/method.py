"""What verl would accept and then train something else by: method, trainer, rewards, reference."""

from __future__ import annotations

from collections.abc import Iterator

from omegaconf import DictConfig, OmegaConf

from verl_care.settings import CareConfig, is_number, uses_kl


def problems(care: CareConfig, config: DictConfig) -> Iterator[str]:
    """One line for each setting that would train another method."""
    yield from _method(care, config)
    yield from _rewards(config)
    yield from _engines(care, config)


def _method(care: CareConfig, config: DictConfig) -> Iterator[str]:
    rollout, v1 = config.actor_rollout_ref.rollout, config.trainer.v1
    if v1.trainer_mode not in ("care", "care_evaluate") or not config.trainer.use_v1:
        yield (
            f"trainer.v1.trainer_mode={v1.trainer_mode}, trainer.use_v1={config.trainer.use_v1}:"
            " the bonus lives in the trainer `care`. Set trainer.v1.trainer_mode=care trainer.use_v1=true."
        )
    if config.trainer.get("val_only") and not config.trainer.get("val_before_train", True):
        yield (
            "trainer.val_only=true with trainer.val_before_train=false: verl validates before training or not at all,"
            " so it would train. Set trainer.val_before_train=true."
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
