"""Files and folders that a configuration names, and what of a run is saved."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig

from verl_care.checkpoints.folders import missing_files
from verl_care.consistency_measures.calibration import Calibration
from verl_care.settings import CareConfig

FOLDERS = ("default_local_dir", "resume_from_path", "validation_data_dir", "rollout_data_dir")
"""Of `trainer`; the last two are most often inside the first."""
HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+")
"""A model of the hub: OWNER/NAME."""


def problems(care: CareConfig, config: DictConfig) -> Iterator[str]:
    """One line for each thing that is not there, or would not be saved."""
    yield from _calibration(care.likelihood_calibration)
    yield from _checkpoints(config)
    yield from _paths(config)


def _calibration(file: str | None) -> Iterator[str]:
    """Read by the trainer alone, so looked for here and not by `CareConfig`: rollout workers are elsewhere."""
    if not file:
        return
    try:
        Calibration.load(Path(file))
    except (OSError, ValueError) as error:
        problem = f"it cannot be read ({error.strerror})" if isinstance(error, OSError) else str(error)
        yield (
            f"care.likelihood_calibration={file}: {problem}. Set care.likelihood_calibration to a file of"
            " `python -m verl_care.evaluation calibrate`, or to null."
        )


def _checkpoints(config: DictConfig) -> Iterator[str]:
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
