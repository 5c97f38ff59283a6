"""The clips and images of prompts: within their budget, decoded once, in time.

The frames are chosen and sized here, by configuration; the model's processor gets exactly these.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from PIL import Image

from verl_care.data import decoders
from verl_care.data.budget import (
    RELEASED_FPS,
    ImageBudget,
    VideoBudget,
    VideoSettings,
    fitted_size,
    frame_indices,
    frame_range,
)
from verl_care.data.decoders import Decoded, Decoder, MediaError
from verl_care.data.memory import MemoryCache
from verl_care.data.pool import DecodePool
from verl_care.data.sources import Clip, File, clip_of, image_identity, image_of
from verl_care.data.store import FrameStore

GIB = 1 << 30
RELEASE = "release"
Frames = tuple[torch.Tensor, dict[str, Any]]
"""(F, 3, H, W) uint8, and the metadata that transformers and vLLM read the sampling rate from."""


class MediaLibrary:
    """`data.video` and `data.image` of one process. Whoever asks gets a `Future`; nothing here waits for a decoder."""

    def __init__(self, video: VideoSettings, image: ImageBudget):
        self.video, self.image_budget = video, image
        self.memory = MemoryCache(int(video.memory_gb * GIB), _bytes)
        self.store = FrameStore(video.cache_dir, int(video.cache_gb * GIB)) if video.cache_dir else None
        self._pool = DecodePool(video.decode_threads)

    def clip(self, part: Mapping[str, Any], patch_size: int) -> Future:
        """`Frames` of a message's `video` part.

        Raises:
            MediaError: as `clip_of`; what goes wrong in decoding is raised by the future.
        """
        clip = clip_of(part)
        job = partial(self._make_clip, clip, patch_size)
        return self._once(("clip", clip.identity, patch_size), f"clip {clip.name}", job)

    def image(self, part: Mapping[str, Any], patch_size: int) -> Future:
        """The picture of a message's `image` part; raises as `clip`."""
        image = image_of(part)
        name = image.path if isinstance(image, File) else "in a row"
        job = partial(load_image, image, self.image_budget, patch_size)
        return self._once(("image", image_identity(image), patch_size), f"image {name}", job)

    def _once(self, key: tuple, what: str, job: Callable[[], Any]) -> Future:
        return self.memory.get(key, lambda: self._pool.submit(what, self.video.timeout_s, job))

    def _make_clip(self, clip: Clip, patch_size: int) -> Frames:
        decoder = decoders.chosen(self.video.decoder)
        key = self._key(clip, decoder, patch_size) if self.store else None
        made = self.store.get(key) if self.store and key else None
        if made is None:
            made = load_clip(clip, decoder, self.video.budget, patch_size)
            if self.store and key:
                self.store.put(key, *made)
        frames, metadata = made
        return frames, released_times(len(frames)) if self.video.temporal_positions == "release" else metadata

    def _key(self, clip: Clip, decoder: Decoder, patch_size: int) -> str | None:
        content = clip.digest
        if content is None:
            return None
        budget = dataclasses.astuple(self.video.budget)
        made_by = (content, *clip.stretch, clip.frame_rate, *budget, decoder.__name__, patch_size)
        return hashlib.blake2b(repr(made_by).encode(), digest_size=20).hexdigest()


@lru_cache(maxsize=2)
def _library(video: VideoSettings, image: ImageBudget, _process: int) -> MediaLibrary:
    return MediaLibrary(video, image)


def library(config: Mapping[str, Any]) -> MediaLibrary:
    """The library of this process for a `data` node. A process that was forked starts its own: threads do not fork."""
    video, image = VideoSettings(**(config.get("video") or {})), ImageBudget(**(config.get("image") or {}))
    return _library(video, image, os.getpid())


def load_clip(clip: Clip, decoder: Decoder, budget: VideoBudget, patch_size: int) -> Frames:
    """Decode the frames that the budget asks for, in the size that it allows.

    Raises:
        MediaError: if the file cannot be opened, or the stretch holds no frame that can be decoded.
    """
    if isinstance(clip.source, File):
        decoded, name = decoders.decode(clip.source.path, decoder, budget, clip.stretch), decoder.__name__
    else:
        decoded, name = _sampled(clip, clip.source, budget), "frames"
    frames = decoded.frames
    try:
        height, width = fitted_size(frames.shape[-2], frames.shape[-1], patch_size, budget.max_pixels)
        first, last = frame_range(decoded.total, decoded.fps, clip.stretch)
    except ValueError as error:
        raise MediaError(f"clip {clip.name}: {error}") from error
    if (height, width) != tuple(frames.shape[-2:]):
        from torchvision.transforms.v2 import functional

        frames = functional.resize(
            frames, [height, width], interpolation=functional.InterpolationMode.BICUBIC, antialias=True
        )
    return frames, {
        "fps": decoded.fps,
        "frames_indices": decoded.indices,
        "total_num_frames": last - first + 1,  # those that were sampled from: frames shown by frames there are
        "video_backend": name,
    }


def _sampled(clip: Clip, frames: torch.Tensor | tuple[File | Image.Image, ...], budget: VideoBudget) -> Decoded:
    """Sample a clip that comes as frames or pixels."""
    total = len(frames)
    try:
        indices = frame_indices(total, clip.frame_rate, budget, clip.stretch)
    except ValueError as error:
        raise MediaError(f"clip {clip.name}: {error}") from error
    if isinstance(frames, torch.Tensor):
        return Decoded(frames[indices].contiguous(), indices, total, clip.frame_rate)
    pictures = [_frame(clip, frames[index]) for index in indices]
    if len({picture.shape for picture in pictures}) > 1:
        sizes = sorted({f"{picture.shape[1]}x{picture.shape[0]}" for picture in pictures})
        raise MediaError(f"clip {clip.name}: its frames differ in size ({', '.join(sizes)})")
    return Decoded(torch.stack(pictures).permute(0, 3, 1, 2).contiguous(), indices, total, clip.frame_rate)


def _frame(clip: Clip, frame: File | Image.Image) -> torch.Tensor:
    """One frame of a list as (H, W, 3)."""
    picture = _opened(frame)
    try:
        decoders.check_frame_size(picture.height, picture.width)
    except ValueError as error:
        raise MediaError(f"clip {clip.name}: {error}") from error
    return torch.from_numpy(np.asarray(picture).copy())


def released_times(frames: int) -> dict[str, Any]:
    """The metadata of a clip whose every temporal patch of two frames lasts one second, whatever it was sampled at.

    So the release trains: its processor takes a clip without a rate for one of 2 frames a second (transformers 4.51.3,
    processing_qwen2_5_vl.py), and the log-probabilities drop even that and fall back to one second
    (`grpo_trainer_ref_ema.py:467`). Temporal positions are 0, 2, 4, ... either way.
    """
    return {
        "fps": RELEASED_FPS,
        "frames_indices": list(range(frames)),
        "total_num_frames": frames,
        "video_backend": RELEASE,
    }


def frame_times(metadata: Mapping[str, Any]) -> list[float] | None:
    """Seconds from the beginning of a clip's file at which its frames are shown; None where its metadata tells others.

    A frame number n is shown at n / fps.
    """
    if metadata["video_backend"] == RELEASE:
        return None
    return [index / metadata["fps"] for index in metadata["frames_indices"]]


def load_image(image: File | Image.Image, budget: ImageBudget, patch_size: int) -> Image.Image:
    """Open one image as RGB, transparency on white as in the release, sized to the budget.

    Raises:
        MediaError: if it is no image.
    """
    opened = _opened(image)
    try:
        height, width = fitted_size(opened.height, opened.width, patch_size, budget.max_pixels)
    except ValueError as error:
        raise MediaError(f"image {image.path if isinstance(image, File) else ''}: {error}") from error
    return opened if (opened.height, opened.width) == (height, width) else opened.resize((width, height))


def _opened(image: File | Image.Image) -> Image.Image:
    from qwen_vl_utils.vision_process import to_rgb

    if isinstance(image, Image.Image):
        return to_rgb(image)
    try:
        with Image.open(image.path) as opened:
            return to_rgb(opened)
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise MediaError(f"image {image.path}: {error}") from error


def _bytes(media: Frames | Image.Image) -> int:
    if isinstance(media, Image.Image):
        return media.width * media.height * len(media.getbands())
    return media[0].nbytes


def media_items(messages: Sequence[dict], kind: str) -> list[dict]:
    """The `image` or `video` parts of chat messages, in reading order."""
    return [
        part
        for message in messages
        if isinstance(message.get("content"), list)
        for part in message["content"]
        if isinstance(part, dict) and part.get("type") == kind
    ]
