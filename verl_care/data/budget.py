"""How many frames of a clip the model sees, which, and how large: the release's rule, within a budget. Pure.

The rule is that of qwen-vl-utils, which the release brings a copy of (TencentARC/GRPO-CARE b0628fc,
`src/qwen-vl-utils`).
Deviations from that copy:

1. `max_pixels` is a bound. There it is 5% more, because the smallest size is as large: a 4:3 clip has 130 tokens a
   frame instead of 117 (a 16:9 clip has 120 either way). `data.video.max_pixels=105369` gives the release's sizes.
2. A picture below the budget keeps its size, to whole patches. There a clip is enlarged to 128 * 28 * 28 pixels a frame
   and an image to 4 * 28 * 28.
3. A strip of less than a patch is one patch wide, and no longer than the budget allows. There it gets no patch at all.
4. A clip of one frame shows that frame twice, and so does a stretch of one frame. There both are errors.
5. A list of frames is a clip like any other. There all of it is taken, each frame within the budget of an image.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import NamedTuple

FRAMES_PER_PATCH = 2  # Qwen-VL's temporal patch: the number of frames is kept even
SPATIAL_MERGE = 2
RELEASED_FPS = 2.0  # what the release's processor takes every clip for

DECODERS = ("auto", "torchcodec", "pyav", "decord")
TEMPORAL_POSITIONS = ("true", "release")


@dataclass(frozen=True)
class VideoBudget:
    """How a clip is sampled. The defaults are the release's training run (method.md)."""

    fps: float = 2.0
    min_frames: int = 4
    max_frames: int = 16
    max_pixels: int = 128 * 28 * 28
    """Pixels of one frame, at most."""


@dataclass(frozen=True)
class VideoSettings(VideoBudget):
    """`data.video`: the budget, and how clips are decoded and kept."""

    decoder: str = "auto"
    """auto: torchcodec where it loads, else PyAV. decord is unmaintained, and never chosen by itself."""
    temporal_positions: str = "true"
    """true: from the times of the frames. release: as if every clip were sampled at 2 frames a second."""
    timeout_s: float = 120.0
    """Seconds that one clip may take."""
    decode_threads: int = 4
    """Clips that one rollout worker decodes at the same time."""
    memory_gb: float = 2.0
    """Decoded media that one rollout worker keeps."""
    cache_dir: str | None = None
    """Folder for sampled frames, for the epochs to come; None: no such cache."""
    cache_gb: float = 50.0
    """What that folder may hold."""

    @property
    def budget(self) -> VideoBudget:
        return VideoBudget(**{field.name: getattr(self, field.name) for field in dataclasses.fields(VideoBudget)})


@dataclass(frozen=True)
class ImageBudget:
    """`data.image`: how an image is sized. The default is the release's training run."""

    max_pixels: int = 256 * 28 * 28


class Stretch(NamedTuple):
    """The part of a clip that a question is about, in seconds; None is the clip's own end."""

    start: float | None = None
    stop: float | None = None


WHOLE = Stretch()


def frame_range(total_frames: int, native_fps: float, stretch: Stretch = WHOLE) -> tuple[int, int]:
    """First and last frame of a stretch, both included: ceil(start * fps) to floor(stop * fps), within the clip.

    Raises:
        ValueError: if the clip has no frame or no frame rate, or the stretch holds no frame.
    """
    if total_frames < 1 or not 0 < native_fps < math.inf:
        raise ValueError(f"{total_frames} frames at {native_fps} frames a second")
    seconds = total_frames / native_fps
    start, stop = (0.0 if stretch.start is None else stretch.start), (seconds if stretch.stop is None else stretch.stop)
    first = math.ceil(min(max(start, 0.0), seconds) * native_fps)
    last = min(math.floor(min(max(stop, 0.0), seconds) * native_fps), total_frames - 1)
    if first > last:
        raise ValueError(f"no frame between {start} s and {stop} s of {seconds:.2f} s")
    return first, last


def frame_indices(total_frames: int, native_fps: float, budget: VideoBudget, stretch: Stretch = WHOLE) -> list[int]:
    """Which frames of a clip the model sees: evenly spread, first and last included, an even number.

    n = clamp(frames / native_fps * fps, min_frames, max_frames), never more than the stretch has,
    rounded down to even; a stretch of one frame gives that frame twice.

    Raises:
        ValueError: as `frame_range`.
    """
    first, last = frame_range(total_frames, native_fps, stretch)
    frames = last - first + 1
    wanted = frames / native_fps * budget.fps
    count = int(min(max(wanted, budget.min_frames), budget.max_frames, frames))
    count = max(FRAMES_PER_PATCH, count // FRAMES_PER_PATCH * FRAMES_PER_PATCH)
    import torch

    return torch.linspace(first, last, count).round().long().tolist()


def fitted_size(height: int, width: int, patch_size: int, max_pixels: int) -> tuple[int, int]:
    """Height and width as multiples of the merged patch, aspect ratio kept, at most `max_pixels` in area.

    Raises:
        ValueError: for a side 200 times as long as the other, which Qwen's processors refuse too.
    """
    from qwen_vl_utils.vision_process import smart_resize

    factor = patch_size * SPATIAL_MERGE
    size = smart_resize(height, width, factor=factor, min_pixels=factor * factor, max_pixels=max_pixels)
    # A strip that it makes narrower than a patch is one patch wide, and no longer than is left of the budget then.
    height, width = (max(side, factor) for side in size)
    longest = max_pixels // min(height, width) // factor * factor
    return min(height, longest), min(width, longest)
