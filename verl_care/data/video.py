"""Decoding a clip or an image within a budget of frames and pixels, and doing it once per prompt.

The frames are chosen and sized here, by configuration; the model's processor gets exactly these.
"""

from __future__ import annotations

import importlib
import importlib.util
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import torch
from PIL import Image

FRAMES_PER_PATCH = 2  # Qwen-VL's temporal patch: the number of frames is kept even
SPATIAL_MERGE = 2

Result = TypeVar("Result")


class MediaError(ValueError):
    """A clip or an image that cannot be used; the message names the file and the reason."""


@dataclass(frozen=True)
class VideoBudget:
    """How a clip is sampled. The defaults are the release's training run (method.md)."""

    fps: float = 2.0
    min_frames: int = 4
    max_frames: int = 16
    max_pixels: int = 128 * 28 * 28
    """Pixels of one frame, at most."""


@dataclass(frozen=True)
class ImageBudget:
    """How an image is sized. The default is the release's training run."""

    max_pixels: int = 256 * 28 * 28


def frame_indices(total_frames: int, native_fps: float, budget: VideoBudget) -> list[int]:
    """Which frames of a clip the model sees: evenly spread, first and last included, an even number.

    n = clamp(total / native_fps * fps, min_frames, max_frames), never more than the clip has,
    rounded down to even; a clip of one frame gives that frame twice.

    Raises:
        ValueError: if the clip has no frame or no frame rate.
    """
    if total_frames < 1 or not native_fps > 0:
        raise ValueError(f"{total_frames} frames at {native_fps} frames a second")
    wanted = total_frames / native_fps * budget.fps
    count = int(min(max(wanted, budget.min_frames), budget.max_frames, total_frames))
    count = max(FRAMES_PER_PATCH, count // FRAMES_PER_PATCH * FRAMES_PER_PATCH)
    return torch.linspace(0, total_frames - 1, count).round().long().tolist()


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


def load_video(path: str, budget: VideoBudget, patch_size: int) -> tuple[torch.Tensor, dict[str, Any]]:
    """Decode the frames of one clip that the budget asks for.

    Returns:
        frames (F, 3, H, W) uint8 and the metadata that transformers and vLLM read the sampling rate from.

    Raises:
        MediaError: if the file cannot be opened or holds no decodable frame.
    """
    frames, indices, total, fps = _decoder()(path, budget)
    try:
        height, width = fitted_size(frames.shape[-2], frames.shape[-1], patch_size, budget.max_pixels)
    except ValueError as error:
        raise MediaError(f"clip {path}: {error}") from error
    if (height, width) != tuple(frames.shape[-2:]):
        from torchvision.transforms.v2 import functional

        frames = functional.resize(
            frames, [height, width], interpolation=functional.InterpolationMode.BICUBIC, antialias=True
        )
    metadata = {"fps": fps, "frames_indices": indices, "total_num_frames": total, "video_backend": _decoder().__name__}
    return frames, metadata


def load_image(path: str, budget: ImageBudget, patch_size: int) -> Image.Image:
    """Open one image as RGB, sized to the budget.

    Raises:
        MediaError: if the file is missing or no image.
    """
    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        height, width = fitted_size(image.height, image.width, patch_size, budget.max_pixels)
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise MediaError(f"image {path}: {error}") from error
    return image if (image.height, image.width) == (height, width) else image.resize((width, height))


Decoded = tuple[torch.Tensor, list[int], int, float]


def pyav(path: str, budget: VideoBudget) -> Decoded:
    """Decode with PyAV, which carries its own FFmpeg. One frame at a time: a clip of minutes has gigabytes of them."""
    import av
    from av.error import FFmpegError

    try:
        with av.open(path) as container:
            if not container.streams.video:
                raise MediaError(f"clip {path}: has no video stream")
            fps = float(container.streams.video[0].average_rate or 0)
            # Containers lie about their number of frames; packets are counted without decoding one.
            total = sum(packet.size > 0 for packet in container.demux(video=0))
        indices = frame_indices(total, fps, budget)
        frames, decoded = _frames_at(path, indices)
        if decoded != total:  # a damaged packet is no frame
            total, indices = decoded, frame_indices(decoded, fps, budget)
            frames, _ = _frames_at(path, indices)
    except (FFmpegError, OSError, ValueError) as error:
        if isinstance(error, MediaError):
            raise
        raise MediaError(f"clip {path}: {error}") from error
    return frames, indices, total, fps


def _frames_at(path: str, indices: list[int]) -> tuple[torch.Tensor, int]:
    """The frames of these numbers, as (F, 3, H, W), and how many frames decode in all."""
    import av

    kept, decoded = {}, 0
    with av.open(path) as container:
        container.streams.video[0].thread_type = "AUTO"
        for decoded, picture in enumerate(container.decode(video=0), start=1):
            if decoded - 1 in indices:
                kept[decoded - 1] = torch.from_numpy(picture.to_ndarray(format="rgb24"))
    frames = [kept[index] for index in indices if index in kept]
    return torch.stack(frames).permute(0, 3, 1, 2).contiguous() if frames else torch.empty(0), decoded


def torchcodec(path: str, budget: VideoBudget) -> Decoded:
    """Decode with torchcodec, which needs FFmpeg's libraries on the machine."""
    from torchcodec.decoders import VideoDecoder

    try:
        decoder = VideoDecoder(path)
        total, fps = int(decoder.metadata.num_frames or 0), float(decoder.metadata.average_fps or 0)
        indices = frame_indices(total, fps, budget)
        frames = decoder.get_frames_at(indices).data
    except (RuntimeError, ValueError, OSError) as error:
        raise MediaError(f"clip {path}: {error}") from error
    return frames, indices, total, fps


@cache
def _decoder() -> Callable[[str, VideoBudget], Decoded]:
    """torchcodec where its libraries load, else PyAV; asked once per process."""
    if importlib.util.find_spec("torchcodec") is None:
        return pyav
    try:
        importlib.import_module("torchcodec.decoders")
    except (ImportError, OSError, RuntimeError):  # no FFmpeg here, or one it was not built for: doctor says which
        return pyav
    return torchcodec


def decoder_name() -> str:
    """Which decoder this process uses."""
    return _decoder().__name__


class OncePerGroup:
    """Keeps the last results, and lets simultaneous askers of one key wait for a single computation.

    verl asks for a prompt's media once per response (G times, mostly at the same moment).
    """

    def __init__(self, capacity: int):
        self._capacity = capacity
        self._lock = threading.Lock()
        self._results: OrderedDict[Hashable, Future] = OrderedDict()

    def get(self, key: Hashable, compute: Callable[[], Result]) -> Result:
        with self._lock:
            future = self._results.get(key)
            mine = future is None
            if future is None:
                future = self._results[key] = Future()
                while len(self._results) > self._capacity:
                    self._results.popitem(last=False)
            else:
                self._results.move_to_end(key)
        if mine:
            try:
                future.set_result(compute())
            except BaseException as error:  # noqa: BLE001 - every asker gets it from `result`
                with self._lock:
                    if self._results.get(key) is future:  # else it was pushed out, and asked for again, meanwhile
                        del self._results[key]
                future.set_exception(error)
        return future.result()


def media_items(messages: Sequence[dict], kind: str) -> list[dict]:
    """The `image` or `video` parts of chat messages, in reading order."""
    return [
        part
        for message in messages
        if isinstance(message.get("content"), list)
        for part in message["content"]
        if isinstance(part, dict) and part.get("type") == kind
    ]
