"""The helper process of `check_media`: decodes one clip, image or folder of frames as training does.

python -m data_prep.media_worker
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from verl_care.data.budget import ImageBudget, VideoBudget
from verl_care.data.decoders import MediaError, chosen, opened
from verl_care.data.media import load_clip, load_image
from verl_care.data.sources import clip_of, frames_in, image_of, local_path
from verl_care.processes.helper import serve

PATCH = 14  # of Qwen2.5-VL; it decides on sizes only, not on what can be read
MEMORY_BYTES = 4 << 30
FACTS = "frames", "seconds", "width", "height"


def judge(question: dict[str, str]) -> dict[str, Any]:
    """{"kind": "video" or "image", "path": file or folder of frames} -> can it be read, `FACTS`, and why not."""
    try:
        facts = _decoded(question["kind"], question["path"])
    except MediaError as error:
        return dict.fromkeys(FACTS) | {"readable": False, "why": _reason(error, question["path"])}
    except MemoryError:
        why = f"needs more than {MEMORY_BYTES >> 30} GiB of memory"
        return dict.fromkeys(FACTS) | {"readable": False, "why": why}
    return dict(zip(FACTS, facts, strict=True)) | {"readable": True, "why": None}


def _decoded(kind: str, path: str) -> tuple[int, float | None, int, int]:
    if kind == "image":
        return 1, None, *_image(path)
    if os.path.isdir(path):
        return _frames(path)
    _, metadata = load_clip(clip_of({"video": path}), chosen(), VideoBudget(), PATCH)
    with opened(str(local_path(path, "clip"))) as container:
        stream = container.streams.video[0]
        frames = metadata["total_num_frames"]
        return frames, frames / metadata["fps"], stream.width, stream.height


def _frames(folder: str) -> tuple[int, None, int, int]:
    """Every frame is opened; the size is that of the first."""
    frames = frames_in(Path(folder))  # as training: what is no image file is no frame
    if not frames:
        raise MediaError("holds no frame")
    sizes = []
    for frame in frames:
        try:
            sizes.append(_image(frame.path))
        except MediaError as error:
            name = os.path.basename(frame.path)
            raise MediaError(f"a frame cannot be used: {name}: {_reason(error, frame.path)}") from error
    return len(frames), None, *sizes[0]


def _image(path: str) -> tuple[int, int]:
    load_image(image_of({"image": path}), ImageBudget(), PATCH)
    with Image.open(path) as image:
        return image.size


def _reason(error: MediaError, path: str) -> str:
    """Without the path, which stands beside it: so that equal reasons can be counted."""
    return str(error).removeprefix(f"clip {path}: ").removeprefix(f"image {path}: ").replace(path, "the file")


if __name__ == "__main__":
    torch.set_num_threads(1)  # as many of us run as the machine has cores
    serve(judge, MEMORY_BYTES)
