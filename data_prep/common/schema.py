"""The parquet schemas that verl reads. Every converter writes these, so its files can be given to verl together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_IMAGES = pa.list_(pa.struct([("image", pa.string())]))

VIDEO = pa.struct(
    [
        ("video", pa.string()),  # a clip, or a folder of frames in the order of their names
        ("video_start", pa.float64()),  # seconds; null: from the clip's first frame
        ("video_end", pa.float64()),  # seconds; null: to its last
        ("raw_fps", pa.float64()),  # frames a second of a folder of frames; null for a clip, which knows its own
    ]
)
"""What `verl_care.data` reads of a clip; `video_start` and `video_end` are qwen-vl-utils' names."""

EXTRA_INFO = pa.struct(
    [
        ("id", pa.string()),
        ("index", pa.int64()),  # number of the row among those of its file that were converted
        ("split", pa.string()),
        ("problem_type", pa.string()),
        ("source", pa.string()),  # the data set's own name of where the row comes from
        ("question", pa.string()),  # without options and the prompt's wording
        ("options", pa.list_(pa.string())),
        ("task_goal", pa.string()),
        ("progress", pa.list_(pa.string())),
        ("domain", pa.string()),
        ("scenario", pa.string()),
        ("task_type", pa.string()),  # a benchmark's own kinds of question, and of length ("short"), where its rows say
        ("duration", pa.string()),
    ]
)
RL_SCHEMA = pa.schema(
    [
        ("data_source", pa.string()),
        ("prompt", _MESSAGES),
        ("videos", pa.list_(VIDEO)),
        ("images", _IMAGES),
        ("reward_model", pa.struct([("style", pa.string()), ("ground_truth", pa.string())])),
        ("extra_info", EXTRA_INFO),
    ]
)
"""Of `verl.utils.dataset.RLHFDataset`."""

SFT_VIDEO = pa.struct(
    [
        ("video", pa.string()),
        ("fps", pa.float64()),
        ("min_frames", pa.int64()),
        ("max_frames", pa.int64()),
        ("max_pixels", pa.int64()),
    ]
)
SFT_SCHEMA = pa.schema(
    [
        ("data_source", pa.string()),
        ("messages", _MESSAGES),
        ("videos", pa.list_(SFT_VIDEO)),
        ("images", pa.list_(pa.struct([("image", pa.string()), ("max_pixels", pa.int64())]))),
        ("extra_info", EXTRA_INFO),
    ]
)
"""Of `verl.utils.dataset.MultiTurnSFTDataset`, which hands each clip and image to qwen-vl-utils as it is: so the
release's budgets stand beside the paths, and nothing is null there."""


def video_entry(
    path: str, start: float | None = None, end: float | None = None, raw_fps: float | None = None
) -> dict[str, Any]:
    return {"video": path, "video_start": start, "video_end": end, "raw_fps": raw_fps}


def image_entry(path: str) -> dict[str, Any]:
    return {"image": path}


def rl_row(
    *,
    data_source: str,
    text: str,
    ground_truth: str,
    videos: Sequence[dict[str, Any]] = (),
    images: Sequence[dict[str, Any]] = (),
    **extra_info: Any,
) -> dict[str, Any]:
    """One row of `RL_SCHEMA`: clips, then images, then the text. What `extra_info` leaves out is null."""
    marks = "<video>" * len(videos) + "<image>" * len(images)
    return {
        "data_source": data_source,
        "prompt": [{"role": "user", "content": marks + text}],
        "videos": list(videos),
        "images": list(images),
        "reward_model": {"style": "rule", "ground_truth": ground_truth},
        "extra_info": extra_info,
    }
