"""The models that packing was tried with, and the refusal of all others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TRIED = {
    "qwen2": "Qwen2, Qwen2.5",
    "qwen3": "Qwen3",
    "qwen2_vl": "Qwen2-VL",
    "qwen2_5_vl": "Qwen2.5-VL",
    "qwen3_vl": "Qwen3-VL",
}
"""transformers' `model_type` -> what people call it."""


class NotTried(ValueError):
    """Packing is not known to be exact for this model."""


def problem(model_config: Any) -> str | None:
    """What is wrong with packing this model; None if nothing is.

    Args:
        model_config: a configuration of transformers, or the contents of a config.json.
    """
    kind = _get(model_config, "model_type")
    if kind not in TRIED:
        return f"its model_type is {kind}, and packing was tried with {', '.join(sorted(TRIED))} only"
    text = _get(model_config, "text_config") or model_config
    if "sliding_attention" in (_get(text, "layer_types") or ()) or _get(text, "use_sliding_window"):
        return "its layers attend within a sliding window, which packing does not know"
    return None


def problem_of_folder(folder: Path) -> str | None:
    """The same of a model in a folder. None if there is none to read: on the hub, in a bucket, or not there."""
    file = folder / "config.json"
    contents = json.loads(file.read_text()) if file.is_file() else None
    return problem(contents) if contents else None


def check(model_config: Any) -> None:
    """Raises:
    NotTried: packing was not tried with this model.
    """
    found = problem(model_config)
    if found:
        raise NotTried(f"care.packing=true with this model: {found}. Set care.packing=false.")


def _get(config: Any, name: str) -> Any:
    return config.get(name) if isinstance(config, dict) else getattr(config, name, None)
