"""Small pictures of exactly the frames that the model saw, each one once, within a bound.

Media that are missing or damaged cost their picture and nothing else; the reason stands where it would be.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from PIL import Image

from verl_care.data import decoders
from verl_care.data.budget import ImageBudget, Stretch, VideoBudget, frame_indices
from verl_care.data.decoders import MediaError
from verl_care.data.media import load_image
from verl_care.data.sources import File, clip_of, image_of
from verl_care.report.payload import Clip, Frame, Picture
from verl_care.report.text import clean, number

WIDTH = 224
ENLARGED_WIDTH = 96
"""A picture of this width or less is kept better: the page enlarges it."""
MAX_BYTES = 24_000_000
_PATCH = 14  # an image is opened as training opens it, and then made smaller


class Thumbnails:
    """The pictures of one page, and which clip has which. What was asked for once is remembered.

    Args:
        max_bytes: of all pictures; what does not fit has a reason instead.
    """

    def __init__(self, max_bytes: int = MAX_BYTES):
        self.images: list[str] = []
        """Data addresses."""
        self._max_bytes, self._bytes = max_bytes, 0
        self._place: dict[bytes, int] = {}
        self._made: dict[str, Any] = {}

    def clip(self, video: Mapping[str, Any], budget: VideoBudget) -> Clip:
        """A clip as a group's record names it.

        Args:
            video: `video`, `video_start`, `video_end`, `raw_fps`, and `frame_times` in seconds; where these are null,
                the frames are those that the budget asks for, as in training.
        """
        source = video.get("video")
        path = f"{len(source)} frames: {clean(source[0])} ..." if isinstance(source, list) and source else clean(source)

        def make() -> list[Frame]:
            return [{"image": self._add(picture), "time": time} for picture, time in _frames(video, budget)]

        frames, reason = self._once(json.dumps(["clip", dict(video), repr(budget)], default=str), make)
        return {"path": path, "frames": frames or [], "reason": reason}

    def picture(self, path: Any) -> Picture:
        """An image of a prompt."""

        def make() -> int:
            return self._add(load_image(image_of({"image": path}), ImageBudget(), _PATCH))

        image, reason = self._once(json.dumps(["image", path], default=str), make)
        return {"path": clean(path), "image": image, "reason": reason}

    def _once(self, key: str, make: Callable[[], Any]) -> tuple[Any, str | None]:
        if key not in self._made:
            if self._bytes >= self._max_bytes:
                return None, f"left out: the pictures of this page take {self._max_bytes / 1e6:g} MB without it"
            try:
                self._made[key] = make(), None
            except MediaError as error:
                self._made[key] = None, clean(str(error))
        return self._made[key]

    def _add(self, picture: Image.Image) -> int:
        small = picture.copy()
        small.thumbnail((WIDTH, 10 * WIDTH))
        content = hashlib.blake2b(small.tobytes() + repr(small.size).encode(), digest_size=16).digest()
        if content not in self._place:
            file = io.BytesIO()
            small.save(file, "WEBP", quality=85 if small.width <= ENLARGED_WIDTH else 70)
            self._place[content] = len(self.images)
            self.images.append("data:image/webp;base64," + base64.b64encode(file.getvalue()).decode())
            self._bytes += len(self.images[-1])
        return self._place[content]


def _frames(video: Mapping[str, Any], budget: VideoBudget) -> list[tuple[Image.Image, float]]:
    """(picture, time) of each frame.

    Raises:
        MediaError: the clip is not there, cannot be decoded, or has no frame at one of the times.
    """
    from av.error import FFmpegError

    if video.get("video") is None:
        raise MediaError("the row holds pixels and no file")
    times = video.get("frame_times")
    try:
        clip = clip_of(video)
        if not isinstance(clip.source, File):
            files = [frame for frame in clip.source if isinstance(frame, File)]  # a record holds no pixels
            indices = _indices(times, len(files), clip.frame_rate, clip.stretch, budget)
            pictures = [load_image(files[index], ImageBudget(), _PATCH) for index in indices]
            return [(picture, index / clip.frame_rate) for picture, index in zip(pictures, indices, strict=True)]
        found = decoders.indexed(clip.source.path)
        decoder = decoders.pyav if found.is_cut else decoders.chosen()
        if times is None:
            decoded = decoders.decode(clip.source.path, decoder, budget, clip.stretch)
            frames, indices = decoded.frames, decoded.indices
        else:
            indices = _indices(times, found.total, found.fps, clip.stretch, budget)
            frames = decoder(clip.source.path, indices)
    except MediaError:
        raise
    except (FFmpegError, RuntimeError, ValueError, OSError) as error:
        raise MediaError(f"clip {video['video']}: {error}") from error
    pictures = [Image.fromarray(frame.permute(1, 2, 0).numpy()) for frame in frames]
    return [(picture, index / found.fps) for picture, index in zip(pictures, indices, strict=True)]


def _indices(times: Sequence[Any] | None, total: int, fps: float, stretch: Stretch, budget: VideoBudget) -> list[int]:
    """The numbers of the frames at these times, or of those that the budget asks for."""
    if times is None:
        return frame_indices(total, fps, budget, stretch)
    seconds = [number(time) for time in times]
    indices = sorted(round(second * fps) for second in seconds if second is not None)
    if len(indices) < len(seconds) or not indices or not 0 <= indices[0] <= indices[-1] < total:
        raise MediaError(f"{total} frames at {fps:g} a second, and none at {times}: the clip is another than it was")
    return indices
