"""The `care:` node of the configuration, checked against itself; `verl_care.checks` looks at the whole.

The numbers are those of the released code; `docs/method.md` gives sources.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from verl_care.consistency_measures import MEASURES

BONUSES = ("hard", "dense", "refgen", "none")
REFGEN_ANSWERS = ("sampled", "greedy")
LIKELIHOOD_MEANS = ("geometric", "arithmetic")
REFERENCES = ("ema", "frozen")
KL_ON = ("all", "accurate")
KL_PARTS = ("joint", "separate")
MAX_SECONDS = 1e9  # more than a thread can wait


class CareConfigError(ValueError):
    """A configuration that would not train what it says; the message names each key that mends it."""


@dataclass(frozen=True)
class CareConfig:
    """Settings of GRPO-CARE. A field you set is a decision; the defaults are the SEED-Bench-R1 run's."""

    bonus: str = "hard"
    """`hard`: CARE's bonus; `dense`: coefficient * accuracy * likelihood; `refgen`: coefficient * accuracy of the
    reference's own answer to the same reasoning; `none`: plain GRPO."""
    refgen_answer: str = "sampled"
    """How the reference answers with `refgen`: `sampled` at temperature 1, or `greedy`. The paper does not say."""
    bonus_coefficient: float = 0.5
    """Share of its accuracy that a response gets as bonus."""
    confidence_upper_bound: float = 0.95
    """Likelihoods are capped here before they are compared."""
    consistency_margin: float = 0.0
    """How far below the group's mean likelihood a response still gets the bonus (general-video runs: 0.01)."""
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
    kl_on: str = "all"
    """Responses that the KL term sees, where there is one: `all`, or the `accurate` ones."""
    kl_parts: str = "joint"
    """`joint`: one mean over a response's tokens; `separate`: one over the reasoning plus one over the answer."""
    consistency_measures: tuple[str, ...] = MEASURES
    """What validation measures of each answer, see `verl_care.consistency_measures`; likelihood needs a reference."""
    likelihood_calibration: str | None = None
    """A file of `python -m verl_care.evaluation calibrate`: `consistency_likelihood_calibrated` is logged as well."""
    packing: bool = True
    """Compute a group's prompt once and not once per response (exact; `verl_care.packing`)."""
    replay_poll_interval_s: float = 0.1
    """Seconds between two looks at finished rollouts (verl's default, 2, is most of a small step)."""
    weight_sync_timeout_s: float = 1800.0
    """Seconds after which a weight sync that does not return stops the run; verl would wait for ever."""
    max_failed_prompts: int = 64
    """Prompts that may fail and be replaced in one step; verl would go on for ever where none can be rolled out."""
    groups_per_step: int = 4
    """Groups of a step that are written to the run's `groups.jsonl.zst`: -1 all, 0 none."""
    groups_every: int = 1
    """Steps from one whose groups are written to the next; the first step's always are."""
    groups_compressed: bool = True
    """Write `groups.jsonl.zst`; false: `groups.jsonl`."""

    def __post_init__(self) -> None:
        problems = list(self._problems())
        if problems:
            raise CareConfigError("\n".join(problems))

    def _problems(self) -> Iterator[str]:
        for key, value, choices in (
            ("bonus", self.bonus, BONUSES),
            ("refgen_answer", self.refgen_answer, REFGEN_ANSWERS),
            ("likelihood_mean", self.likelihood_mean, LIKELIHOOD_MEANS),
            ("reference", self.reference, REFERENCES),
            ("kl_on", self.kl_on, KL_ON),
            ("kl_parts", self.kl_parts, KL_PARTS),
        ):
            if value not in choices:
                yield f"care.{key}={value}: not one of {', '.join(choices)}. Set care.{key} to one of them."
        for name in self.consistency_measures:
            if name not in MEASURES:
                yield (
                    f"care.consistency_measures={list(self.consistency_measures)}: {name} is none of"
                    f" {', '.join(MEASURES)}. Set care.consistency_measures to some of them, or to []."
                )
        for key, why in (
            ("bonus_coefficient", "below 0 it would punish consistency"),
            ("consistency_margin", "below 0 not even a response at its group's mean would get the bonus"),
        ):
            value = getattr(self, key)
            if not (math.isfinite(value) and value >= 0):
                yield f"care.{key}={value}: {why}. Set care.{key} to a number >= 0."
        if not 0 < self.confidence_upper_bound <= 1:
            yield (
                f"care.confidence_upper_bound={self.confidence_upper_bound}: a likelihood lies in (0, 1], so must its"
                " cap. Set care.confidence_upper_bound=1 for no cap."
            )
        if not 0 <= self.accuracy_threshold < 1:
            yield (
                f"care.accuracy_threshold={self.accuracy_threshold}: accuracy lies in [0, 1], and a response must"
                " exceed the threshold. Set care.accuracy_threshold within [0, 1)."
            )
        if not 0 <= self.ref_ema_decay <= 1:
            yield (
                f"care.ref_ema_decay={self.ref_ema_decay}: outside [0, 1], the reference would overshoot the policy."
                " Set care.ref_ema_decay within [0, 1], or care.reference=frozen for no update."
            )
        if self.ref_ema_update_every < 1:
            yield (
                f"care.ref_ema_update_every={self.ref_ema_update_every}: counts optimizer steps, so at least 1."
                " Set care.ref_ema_update_every to 1 or more, or care.reference=frozen for no update."
            )
        if self.scoring_temperature != 1:
            yield (
                f"care.scoring_temperature={self.scoring_temperature}: the bonus compares probabilities, and a tempered"
                " model gives others. Set care.scoring_temperature=1; sample at another temperature with"
                " actor_rollout_ref.rollout.temperature."
            )
        if self.max_failed_prompts < 0:
            yield (
                f"care.max_failed_prompts={self.max_failed_prompts}: counts prompts. Set care.max_failed_prompts to 0"
                " (the first failure stops the run) or more."
            )
        if self.groups_per_step < -1:
            yield f"care.groups_per_step={self.groups_per_step}: counts groups. Set care.groups_per_step to -1 for all."
        if self.groups_every < 1:
            yield (
                f"care.groups_every={self.groups_every}: counts steps, so at least 1. Set care.groups_every to 1, or"
                " care.groups_per_step=0 to write none."
            )
        for key in ("replay_poll_interval_s", "weight_sync_timeout_s"):
            if not 0 < getattr(self, key) <= MAX_SECONDS:
                yield f"care.{key}={getattr(self, key)}: a wait takes time, and ends. Set care.{key} to seconds > 0."

    @classmethod
    def from_config(cls, config: DictConfig) -> CareConfig:
        """Read and check the `care:` node of a whole verl configuration.

        Raises:
            CareConfigError: with one line for everything that is wrong.
        """
        node = OmegaConf.select(config, "care")
        if not isinstance(node, DictConfig):
            raise CareConfigError(
                f"care: {node!r}, not a node of settings: the configuration was not built on ours."
                " Use --config-name care_base, or put care_base into your own config's defaults."
            )
        values: dict[str, Any] = OmegaConf.to_container(node, resolve=True)  # type: ignore[assignment]
        return cls(**_typed(values))

    @property
    def weighs_kl(self) -> bool:
        """True if the KL term is not verl's own."""
        return self.kl_on != "all" or self.kl_parts != "joint"

    def needs_reference(self, config: DictConfig) -> bool:
        """True if a reference model must be there: for the bonus, or for a KL term."""
        return self.bonus != "none" or uses_kl(config)

    def scores_validation(self, config: DictConfig) -> bool:
        """True if the reference scores the answers of a validation."""
        return "likelihood" in self.consistency_measures and self.needs_reference(config)


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


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """A line for each setting that differs."""
    return [
        f"{name}: {there.get(name)} there, {here.get(name)} now"
        for name in sorted(there.keys() | here.keys())
        if there.get(name) != here.get(name)
    ]


def _is_words(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)


_KINDS = {
    str: "a word",
    bool: "true or false",
    float: "a number",
    int: "a whole number",
    tuple: "a list of words",
    type(None): "a path, or null",
}


def _typed(values: dict[str, Any]) -> dict[str, Any]:
    """The values in the type of their fields: 1 is also 1.0, nothing else is converted."""
    kinds = {field.name: type(field.default) for field in dataclasses.fields(CareConfig)}
    problems, typed = [], {}
    for key, value in values.items():
        kind = kinds.get(key)
        if kind is None:
            problems.append(unknown_key("care", str(key), kinds))
        elif isinstance(value, {str: str, bool: bool, type(None): str | None}.get(kind, ())):
            typed[key] = value
        elif kind is tuple and _is_words(value):
            typed[key] = tuple(value)
        elif kind is float and is_number(value):
            typed[key] = float(value)
        elif kind is int and is_number(value) and float(value).is_integer():
            typed[key] = int(value)
        else:
            word = _KINDS[kind]
            problems.append(f"care.{key}={value!r}: must be {word}. Set care.{key} to {word}.")
    if problems:
        raise CareConfigError("\n".join(problems))
    return typed
