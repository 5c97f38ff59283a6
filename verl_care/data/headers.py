"""What a file's header says of a clip or an image: enough to know how many tokens it will take, without decoding it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from PIL import Image

from verl_care.data.budget import VideoBudget
from verl_care.data.decoders import MediaError, check_frame_size, opened
from verl_care.data.sources import File

HEADERS_KEPT = 65_536  # many questions are about one clip; a file that changed is another `File`


@dataclass(frozen=True)
class ClipHeader:
    """Of a clip, whether it comes as a file, as frames or as pixels."""

    frames: int
    fps: float
    height: int
    width: int


def image_size(image: File | Image.Image) -> tuple[int, int]:
    """(height, width) in pixels.

    Raises:
        MediaError: if the file is missing or no image.
    """
    return _size_in(image) if isinstance(image, File) else (image.height, image.width)


def clip_header(
    source: File | tuple[File | Image.Image, ...] | torch.Tensor, frame_rate: float, budget: VideoBudget
) -> ClipHeader:
    """Frames, frame rate and size of what `clip_of` gives; `frame_rate` is that of frames and pixels, not of a file.

    The first frame's size stands for all.

    Raises:
        MediaError: if a file cannot be opened, holds no picture, or holds frames above `FRAME_PIXELS`.
    """
    if isinstance(source, File):
        return _header_in(source, budget)
    if isinstance(source, torch.Tensor):
        return ClipHeader(len(source), frame_rate, *source.shape[-2:])
    return ClipHeader(len(source), frame_rate, *image_size(source[0]))


@lru_cache(maxsize=HEADERS_KEPT)
def _size_in(file: File) -> tuple[int, int]:
    try:
        with Image.open(file.path) as image:
            return image.height, image.width
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise MediaError(f"image {file.path}: {error}") from error


@lru_cache(maxsize=HEADERS_KEPT)
def _header_in(file: File, budget: VideoBudget) -> ClipHeader:
    """Containers can be wrong about their number of frames, so packets are counted where it matters: in a clip that is
    too short to reach the budget's `max_frames` at twice what the container says. A longer one is not read through.
    """
    from av.error import FFmpegError

    try:
        with opened(file.path) as container:
            if not container.streams.video:
                raise MediaError(f"clip {file.path}: has no video stream")
            stream = container.streams.video[0]
            fps, frames = float(stream.average_rate or 0), stream.frames
            if fps <= 0:
                raise MediaError(f"clip {file.path}: has no frame rate")
            if frames / fps * budget.fps < 2 * budget.max_frames:
                frames = sum(p.size > 0 and not p.is_discard for p in container.demux(stream))
            height, width = stream.codec_context.height, stream.codec_context.width
            if not (height and width):
                raise MediaError(f"clip {file.path}: says no height and width")
            check_frame_size(height, width)
            return ClipHeader(frames, fps, height, width)
    except (FFmpegError, OSError, ValueError) as error:
        if isinstance(error, MediaError):
            raise
        raise MediaError(f"clip {file.path}: {error}") from error
