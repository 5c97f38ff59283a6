"""The `care:` node of the configuration, checked against itself and against verl's configuration.

Every check says what was found, why it is wrong and which key mends it, and all of them run before Ray
starts (`verl_care.launch`). The numbers are those of the released code; `docs/method.md` gives sources.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

BONUSES = ("hard", "dense", "none")
LIKELIHOOD_MEANS = ("geometric", "arithmetic")
REFERENCES = ("ema", "frozen")


class CareConfigError(ValueError):
    """A configuration that would not train what it says; the message names each key that mends it."""


@dataclass(frozen=True)
class CareConfig:
    """Settings of GRPO-CARE. A field you set is a decision; the defaults are the SEED-Bench-R1 run's."""

    bonus: str = "hard"
    """`hard`: CARE's bonus; `dense`: coefficient * accuracy * likelihood; `none`: plain GRPO."""
    bonus_coefficient: float = 0.5
    """Share of its accuracy that a response gets as bonus."""
    confidence_upper_bound: float = 0.95
    """Likelihoods are capped here before they are compared."""
    consistency_margin: float = 0.0
    """How far below the group's mean likelihood a response still gets the bonus (the paper's general-video run: 0.01)."""
    accuracy_threshold: float = 0.1
    """A response must be more accurate than this to take part in the comparison."""
    likelihood_mean: str = "geometric"
    """Mean over the answer's tokens: `geometric` (released code) or `arithmetic` (paper, Algorithm 1)."""
    reference: str = "ema"
    """`ema`: follows the policy slowly; `frozen`: stays the initial policy."""
    ref_ema_decay: float = 0.995
    """Share of the reference that one update keeps."""
    ref_ema_update_every: int = 10
    """Optimizer steps between two updates of the reference."""
    scoring_temperature: float = 1.0
    """Temperature of the reference's likelihoods; the method defines them at 1."""
    replay_poll_interval_s: float = 0.1
    """Seconds between two looks at finished rollouts (verl's default, 2, is most of a small step)."""
    weight_sync_timeout_s: float = 1800.0
    """Seconds after which a weight sync that does not return stops the run; verl would wait for ever."""

    def __post_init__(self) -> None:
        problems = list(self._problems())
        if problems:
            raise CareConfigError("\n".join(problems))

    def _problems(self) -> Iterator[str]:
        for key, value, choices in (
            ("bonus", self.bonus, BONUSES),
            ("likelihood_mean", self.likelihood_mean, LIKELIHOOD_MEANS),
            ("reference", self.reference, REFERENCES),
        ):
            if value not in choices:
                yield f"care.{key}={value}: not one of {', '.join(choices)}. Set care.{key} to one of them."
        for key in ("bonus_coefficient", "consistency_margin"):
            value = getattr(self, key)
            if not (math.isfinite(value) and value >= 0):
                yield f"care.{key}={value}: must be a number >= 0. Set care.{key}=0 for none."
        if not 0 < self.confidence_upper_bound <= 1:
            yield (
                f"care.confidence_upper_bound={self.confidence_upper_bound}: a likelihood lies in (0, 1], so must its cap."
                " Set care.confidence_upper_bound=1 for no cap."
            )
        if not 0 <= self.accuracy_threshold < 1:
            yield f"care.accuracy_threshold={self.accuracy_threshold}: accuracy lies in [0, 1]. Set it within [0, 1)."
        if not 0 <= self.ref_ema_decay <= 1:
            yield (
                f"care.ref_ema_decay={self.ref_ema_decay}: outside [0, 1], the reference would overshoot the policy."
                " Set care.ref_ema_decay within [0, 1], or care.reference=frozen for no update."
            )
        if self.ref_ema_update_every < 1:
            yield (
                f"care.ref_ema_update_every={self.ref_ema_update_every}: counts optimizer steps, so at least 1."
                " Set care.reference=frozen for no update."
            )
        if self.scoring_temperature != 1:
            yield (
                f"care.scoring_temperature={self.scoring_temperature}: the bonus compares probabilities, and a tempered"
                " model gives others. Set care.scoring_temperature=1; sample at another temperature with"
                " actor_rollout_ref.rollout.temperature."
            )
        for key in ("replay_poll_interval_s", "weight_sync_timeout_s"):
            if not getattr(self, key) > 0:
                yield f"care.{key}={getattr(self, key)}: must be a number of seconds > 0."

    @classmethod
    def from_config(cls, config: DictConfig) -> CareConfig:
        """Read and check the `care:` node of a whole verl configuration.

        Raises:
            CareConfigError: with one line for everything that is wrong.
        """
        node = OmegaConf.select(config, "care")
        if node is None:
            raise CareConfigError(
                "no `care:` node in the configuration: it was not built on ours."
                " Use --config-name care_base, or put care_base into your own config's defaults."
            )
        values: dict[str, Any] = OmegaConf.to_container(node, resolve=True)  # type: ignore[assignment]
        return cls(**_typed(cls, values))

    def needs_reference(self, config: DictConfig) -> bool:
        """True if a reference model must be there: for the bonus, or for a KL term."""
        return self.bonus != "none" or _uses_kl(config)


def check(config: DictConfig) -> CareConfig:
    """The settings of `config`, after every check that needs no GPU.

    Raises:
        CareConfigError: with one line for everything that is wrong.
    """
    care = CareConfig.from_config(config)
    problems = list(_conflicts(care, config))
    if problems:
        raise CareConfigError("\n".join(problems))
    return care


def _typed(cls: type[CareConfig], values: dict[str, Any]) -> dict[str, Any]:
    fields = {field.name: type(field.default) for field in dataclasses.fields(cls)}
    problems, typed = [], {}
    for key, value in values.items():
        kind = fields.get(key)
        if kind is None:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"Did you mean care.{near[0]}?" if near else f"Known keys: {', '.join(fields)}."
            problems.append(f"care.{key}: no such setting. {hint}")
        elif kind is str and isinstance(value, str):
            typed[key] = value
        elif (
            kind is not str and isinstance(value, int | float) and not isinstance(value, bool) and kind(value) == value
        ):
            typed[key] = kind(value)
        else:
            problems.append(f"care.{key}={value!r}: not {'a word' if kind is str else f'of type {kind.__name__}'}.")
    if problems:
        raise CareConfigError("\n".join(problems))
    return typed


def _uses_kl(config: DictConfig) -> bool:
    return bool(config.actor_rollout_ref.actor.use_kl_loss or config.algorithm.use_kl_in_reward)


def _conflicts(care: CareConfig, config: DictConfig) -> Iterator[str]:
    """What verl would accept, and then train something else or stop late."""
    actor, rollout, model = (config.actor_rollout_ref[name] for name in ("actor", "rollout", "model"))

    if config.trainer.v1.trainer_mode != "care" or not config.trainer.use_v1:
        yield (
            f"trainer.v1.trainer_mode={config.trainer.v1.trainer_mode}, trainer.use_v1={config.trainer.use_v1}:"
            " the bonus lives in the trainer `care`. Set trainer.v1.trainer_mode=care trainer.use_v1=true."
        )
    if rollout.n < 2:
        yield (
            f"actor_rollout_ref.rollout.n={rollout.n}: a response is compared with the others of its prompt."
            " Set actor_rollout_ref.rollout.n to 2 or more (the release: 8)."
        )
    if config.algorithm.adv_estimator not in ("care", "grpo"):
        yield (
            f"algorithm.adv_estimator={config.algorithm.adv_estimator}: CARE's advantage is group-relative."
            " Set algorithm.adv_estimator=care (or grpo, verl's own, with epsilon 1e-6)."
        )
    if config.reward.reward_manager.name != "care":
        yield (
            f"reward.reward_manager.name={config.reward.reward_manager.name}: the bonus needs the answer span that"
            " the manager `care` reports. Set reward.reward_manager.name=care."
        )
    if actor.strategy != "fsdp2":
        yield (
            f"actor_rollout_ref.actor.strategy={actor.strategy}: the reference keeps FSDP2 shards."
            " Set actor_rollout_ref.actor.strategy=fsdp2."
        )
    if (model.get("lora_rank", 0) or model.get("lora", {}).get("rank", 0) or model.get("lora_adapter_path")) and (
        care.needs_reference(config)
    ):
        yield (
            "actor_rollout_ref.model.lora_rank: with LoRA verl's reference is the base model itself, which cannot"
            " follow the policy. Set actor_rollout_ref.model.lora_rank=0."
        )
    if config.actor_rollout_ref.ref.fsdp_config.model_dtype != "fp32" and care.reference == "ema":
        yield (
            f"actor_rollout_ref.ref.fsdp_config.model_dtype={config.actor_rollout_ref.ref.fsdp_config.model_dtype}:"
            " an EMA step is smaller than this type can hold. Set it to fp32 (the forward pass still runs in"
            " mixed precision), or care.reference=frozen."
        )
    if rollout.temperature != 1 and _uses_kl(config) and care.bonus != "none":
        yield (
            f"actor_rollout_ref.rollout.temperature={rollout.temperature} with a KL term and a bonus: one reference"
            " pass cannot serve both. Set actor_rollout_ref.rollout.temperature=1, or care.bonus=none."
        )
    if actor.get("freeze_vision_tower", False):
        yield (
            "actor_rollout_ref.actor.freeze_vision_tower=true: verl 0.9.1 accepts it and trains the tower all the"
            " same. Set it to false."
        )
    if actor.get("use_prefix_grouper", False):
        yield (
            "actor_rollout_ref.actor.use_prefix_grouper=true: verl 0.9.1's V1 trainer accepts it and does nothing."
            " Set it to false."
        )
    if actor.get("checkpoint", {}).get("async_save", False):
        yield (
            "actor_rollout_ref.actor.checkpoint.async_save=true: the reference is saved with the step, so the actor"
            " must be too. Set it to false."
        )
