"""What a file's header says of a clip or an image: enough to know how many tokens it will take, without decoding it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from verl_care.data.budget import FRAMES_PER_PATCH, RELEASED_FPS, Stretch, VideoBudget, frame_indices
from verl_care.data.decoders import MediaError

FRAME_FILES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


@dataclass(frozen=True)
class ClipHeader:
    """Of a clip, or of a folder of frames."""

    frames: int
    fps: float
    height: int
    width: int


def image_size(path: str) -> tuple[int, int]:
    """(height, width) in pixels.

    Raises:
        MediaError: if the file is missing or no image.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.height, image.width
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise MediaError(f"image {path}: {error}") from error


def clip_header(path: str, budget: VideoBudget, raw_fps: float | None = None) -> ClipHeader:
    """Frames, frame rate and size of a clip; of a folder of frames, whose rate is `raw_fps`.

    Containers can be wrong about their number of frames, so packets are counted where it matters: in a clip that is too
    short to reach the budget's `max_frames` at twice what the container says. A longer one is not read through.

    Raises:
        MediaError: if it cannot be opened or holds no picture.
    """
    if os.path.isdir(path):
        names = sorted(name for name in os.listdir(path) if name.lower().endswith(FRAME_FILES))
        if not names:
            raise MediaError(f"clip {path}: has no frame")
        return ClipHeader(len(names), raw_fps or RELEASED_FPS, *image_size(os.path.join(path, names[0])))
    import av
    from av.error import FFmpegError

    try:
        with av.open(path) as container:
            if not container.streams.video:
                raise MediaError(f"clip {path}: has no video stream")
            stream = container.streams.video[0]
            fps, frames = float(stream.average_rate or 0), stream.frames
            if fps <= 0:
                raise MediaError(f"clip {path}: has no frame rate")
            if frames / fps * budget.fps < 2 * budget.max_frames:
                frames = sum(packet.size > 0 and not packet.is_discard for packet in container.demux(video=0))
            height, width = stream.codec_context.height, stream.codec_context.width
            if not (height and width):
                raise MediaError(f"clip {path}: says no height and width")
            return ClipHeader(frames, fps, height, width)
    except (FFmpegError, OSError, ValueError) as error:
        if isinstance(error, MediaError):
            raise
        raise MediaError(f"clip {path}: {error}") from error


def sampled_frames(header: ClipHeader, budget: VideoBudget, part: dict[str, Any]) -> list[int]:
    """Numbers of the frames that the model sees, of the part's `video_start` to `video_end` in seconds.

    Raises:
        MediaError: if there is no frame in between.
    """
    stretch = Stretch(part.get("video_start"), part.get("video_end"))
    try:
        return frame_indices(header.frames, header.fps, budget, stretch)
    except ValueError as error:
        raise MediaError(f"clip {part['video']}: {error}") from error


def patches_in_time(frames: int) -> int:
    return frames // FRAMES_PER_PATCH
