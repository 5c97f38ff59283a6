"""What is wrong with `data.video` and `data.image`, a line for each thing; for `verl_care.settings`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig

from verl_care.data.budget import (
    DECODERS,
    FRAMES_PER_PATCH,
    SPATIAL_MERGE,
    TEMPORAL_POSITIONS,
    ImageBudget,
    VideoSettings,
)
from verl_care.settings import is_number, unknown_key

WORDS = {"decoder": DECODERS, "temporal_positions": TEMPORAL_POSITIONS}
MAX_SECONDS = 1e6  # of a timer; more overflows it
WHY = {
    "fps": "no frame would be taken",
    "min_frames": "a clip has a frame",
    "max_frames": "the model sees frames in pairs",
    "max_pixels": "one token covers that much",
    "timeout_s": "no clip would be decoded",
    "decode_threads": "no clip would be decoded",
    "memory_gb": "a cache holds no less than nothing",
    "cache_gb": "a cache holds no less than nothing",
}


def problems(data: DictConfig) -> Iterator[str]:
    """One line for each setting of media that would not do what it says."""
    if not data.custom_cls.path or not data.custom_cls.name:
        yield (
            f"data.custom_cls.path={data.custom_cls.path}, name={data.custom_cls.name}: verl's own dataset ignores"
            " data.video and data.image, and decodes a clip once per response."
            " Set data.custom_cls.path=pkg://verl_care.data.dataset data.custom_cls.name=CareDataset."
        )
    merged_patch = (SPATIAL_MERGE * data.get("image_patch_size", 14)) ** 2
    for name, kind in (("video", VideoSettings), ("image", ImageBudget)):
        defaults = {field.name: field.default for field in dataclasses.fields(kind)}
        node = dict(data.get(name) or {})
        for key, value in node.items():
            yield from _value(f"data.{name}", str(key), value, defaults, merged_patch)
        if name == "video":
            yield from _together({**defaults, **node})


def _value(node: str, key: str, value: Any, defaults: dict[str, Any], merged_patch: int) -> Iterator[str]:
    if key not in defaults:
        yield unknown_key(node, key, defaults)
    elif key in WORDS:
        # a shell takes `temporal_positions=true` for a truth value
        if str(value).lower() not in WORDS[key]:
            yield f"{node}.{key}={value}: no such choice. Set {node}.{key} to {' or '.join(WORDS[key])}."
    elif key == "cache_dir":
        if value is not None and (not isinstance(value, str) or not value):
            yield f"{node}.{key}={value!r}: is no folder. Set {node}.{key} to a folder, or to null for no cache."
    else:
        yield from _number(node, key, value, defaults[key], merged_patch)


def _number(node: str, key: str, value: Any, default: float, merged_patch: int) -> Iterator[str]:
    whole = isinstance(default, int)
    least = {"min_frames": 1, "max_frames": 2, "max_pixels": merged_patch, "decode_threads": 1}.get(key, 0)
    if not is_number(value) or not math.isfinite(value) or (whole and value != int(value)):
        word = "a whole number" if whole else "a number"
        yield f"{node}.{key}={value}: must be {word}. Set {node}.{key}={default}, the default."
    elif value < least or (value == 0 and not key.endswith("_gb")):
        bound = f"at least {least}" if whole or key.endswith("_gb") else "above 0"
        yield f"{node}.{key}={value}: {WHY[key]}. Set {node}.{key} to {bound}."
    elif key in ("min_frames", "max_frames") and value > 1 and value % FRAMES_PER_PATCH:
        yield (
            f"{node}.{key}={value}: the model sees frames in pairs, so one of them would be left out."
            f" Set {node}.{key} to an even number."
        )
    elif key == "timeout_s" and value > MAX_SECONDS:
        yield f"{node}.{key}={value}: more than a timer can wait. Set {node}.{key} to at most {MAX_SECONDS:.0f}."


def _together(video: dict[str, Any]) -> Iterator[str]:
    least, most = video["min_frames"], video["max_frames"]
    if is_number(least) and is_number(most) and most < least:
        yield (
            f"data.video.max_frames={most} is below data.video.min_frames={least}: no number of frames is both."
            " Set data.video.min_frames to at most data.video.max_frames."
        )
    if video["decoder"] in ("torchcodec", "decord"):
        from verl_care.data.decoders import why_not

        if reason := why_not(video["decoder"]):
            yield (
                f"data.video.decoder={video['decoder']}: does not load here: {reason}."
                " Set data.video.decoder=auto, or see python -m verl_care.doctor."
            )
