"""A wrong value stops the run with what was found, why it is wrong and which key mends it."""

import dataclasses
import math

import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf, open_dict

from tests.unit.configs import message, put
from verl_care.checks import check
from verl_care.settings import CareConfig, CareConfigError


@pytest.mark.parametrize("name", ["care_base", "care_quickstart"])
def test_the_published_configs_pass(composed, name):
    assert check(composed[name]) == CareConfig()


def test_care_base_writes_out_every_setting(composed):
    # what is documented there as a default is the default, and nothing is left out
    written = OmegaConf.to_container(composed["care_base"].care)
    written["consistency_measures"] = tuple(written["consistency_measures"])  # YAML has lists
    assert written == dataclasses.asdict(CareConfig())


def test_care_base_alone_asks_for_data_and_model():
    with initialize_config_module("verl.trainer.config", version_base=None):
        text = message(compose("care_base"))
    assert [line.split("=")[0] for line in text.splitlines()] == [
        "data.train_files",
        "data.val_files",
        "actor_rollout_ref.model.path",
    ]


# setting, value found, part of the reason; the key that mends it is the setting itself
CARE_CASES = [
    ("bonus", "soft", "not one of hard, dense, refgen, none"),
    ("refgen_answer", "beam", "not one of sampled, greedy"),
    ("likelihood_mean", "harmonic", "not one of geometric, arithmetic"),
    ("reference", "sliding", "not one of ema, frozen"),
    ("bonus_coefficient", -0.1, "punish consistency"),
    ("bonus_coefficient", math.inf, "punish consistency"),
    ("consistency_measures", ["agreement", "judge"], "judge is none of contradiction, agreement, likelihood"),
    ("likelihood_calibration", "/nowhere/c.json", "it cannot be read (No such file or directory)"),
    ("consistency_margin", -0.01, "not even a response at its group's mean"),
    ("consistency_margin", math.nan, "not even a response at its group's mean"),
    ("confidence_upper_bound", 0.0, "a likelihood lies in (0, 1]"),
    ("confidence_upper_bound", 1.01, "a likelihood lies in (0, 1]"),
    ("accuracy_threshold", -0.1, "accuracy lies in [0, 1]"),
    ("accuracy_threshold", 1.0, "must exceed the threshold"),
    ("ref_ema_decay", -0.001, "outside [0, 1]"),
    ("ref_ema_decay", 1.001, "outside [0, 1]"),
    ("ref_ema_decay", math.nan, "outside [0, 1]"),
    ("ref_ema_update_every", 0, "at least 1"),
    ("scoring_temperature", 0.7, "a tempered model gives others"),
    ("groups_per_step", -2, "counts groups"),
    ("groups_every", 0, "counts steps"),
    ("replay_poll_interval_s", 0.0, "a wait takes time"),
    ("weight_sync_timeout_s", -1.0, "a wait takes time"),
    ("weight_sync_timeout_s", math.inf, "and ends"),
]

WRONG_TYPES = [
    ("bonus", 1, "a word"),
    ("bonus", None, "a word"),
    ("consistency_measures", "agreement", "a list of words"),
    ("consistency_measures", [1], "a list of words"),
    ("likelihood_calibration", 1, "a path, or null"),
    ("reference", {"decay": 0.9}, "a word"),
    ("ref_ema_decay", "0.995", "a number"),
    ("consistency_margin", True, "a number"),
    ("ref_ema_update_every", 2.5, "a whole number"),
    ("ref_ema_update_every", math.inf, "a whole number"),
    ("ref_ema_update_every", math.nan, "a whole number"),
    ("ref_ema_update_every", False, "a whole number"),
]


@pytest.mark.parametrize(("key", "value", "reason"), CARE_CASES)
def test_a_setting_out_of_its_range(config, key, value, reason):
    put(config, f"care.{key}", value)
    text = message(config)
    assert text.startswith(f"care.{key}={value}: ")
    assert reason in text
    assert f"Set care.{key}" in text
    assert len(text.splitlines()) == 1


def test_a_calibration_is_looked_for_where_it_is_read(config):
    """The trainer reads it; a rollout worker on another node has no such file, and needs none."""
    put(config, "care.likelihood_calibration", "/nowhere/c.json")
    assert CareConfig.from_config(config).likelihood_calibration == "/nowhere/c.json"
    with pytest.raises(CareConfigError, match="it cannot be read"):
        check(config)


@pytest.mark.parametrize(("key", "value", "word"), WRONG_TYPES)
def test_a_setting_of_the_wrong_type(config, key, value, word):
    put(config, f"care.{key}", value)
    assert message(config) == f"care.{key}={value!r}: must be {word}. Set care.{key} to {word}."


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ref_ema_decay", 0),
        ("ref_ema_decay", 1),
        ("confidence_upper_bound", 1),
        ("accuracy_threshold", 0),
        ("consistency_margin", 0),
        ("ref_ema_update_every", 1.0),
    ],
)
def test_the_ends_of_a_range_are_in_it(config, key, value):
    put(config, f"care.{key}", value)
    found = getattr(check(config), key)
    assert found == value
    assert type(found) is type(getattr(CareConfig(), key))


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("consistancy_margin", "Did you mean care.consistency_margin?"),
        ("ema_decay", "Did you mean care.ref_ema_decay?"),
        ("zzz", "Known keys: bonus, refgen_answer,"),
        (7, "Known keys: bonus, refgen_answer,"),
    ],
)
def test_an_unknown_setting(config, key, hint):
    with open_dict(config):
        config.care[key] = 1
    assert message(config).startswith(f"care.{key}: no such setting, it would be ignored. {hint}")


@pytest.mark.parametrize("node", [None, 5, "care"])
def test_no_care_node(config, node):
    put(config, "care", node)
    assert f"care: {node!r}, not a node of settings" in message(config)
    assert "--config-name care_base" in message(config)


def test_everything_wrong_is_said_at_once(config):
    put(config, "actor_rollout_ref.rollout.n", 1)
    put(config, "actor_rollout_ref.actor.strategy", "megatron")
    put(config, "data.video.fps", 0)
    # ref.strategy was resolved before the actor's was changed
    assert [line.split("=")[0] for line in message(config).splitlines()] == [
        "actor_rollout_ref.rollout.n",
        "actor_rollout_ref.actor.strategy",
        "data.video.fps",
    ]
