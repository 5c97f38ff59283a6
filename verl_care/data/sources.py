"""What a row may name as a clip or an image: a local file, a folder or a list of frames, pixels."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from verl_care.data.budget import RELEASED_FPS, Stretch
from verl_care.data.decoders import MediaError

FRAME_FILES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
Pixels = torch.Tensor | np.ndarray | Image.Image


@dataclass(frozen=True)
class File:
    """A file as it was when it was asked for: another size or date, and it is another file."""

    path: str
    size: int
    changed_ns: int

    @property
    def digest(self) -> str:
        """Of its content; read once per process."""
        return _digest(self)


class Clip(NamedTuple):
    """The clip of a `video` part of a message."""

    name: str
    """For messages to the user."""
    source: File | tuple[File | Image.Image, ...] | torch.Tensor
    """A file to decode, frames, or pixels (F, 3, H, W)."""
    stretch: Stretch
    frame_rate: float
    """Of frames and pixels, which do not say: `raw_fps` of the part, else 2."""

    @property
    def identity(self) -> Hashable:
        """Equal for two clips of the same content, as far as can be told without reading it."""
        return (_identity(self.source), self.stretch, self.frame_rate)

    @property
    def digest(self) -> str | None:
        """Of its content; None where it is no file."""
        if isinstance(self.source, File):
            return self.source.digest
        files = [frame for frame in self.source if isinstance(frame, File)]
        if len(files) < len(self.source):
            return None
        return hashlib.blake2b("".join(file.digest for file in files).encode(), digest_size=20).hexdigest()


def clip_of(part: Mapping[str, Any]) -> Clip:
    """Read a message's part `{"type": "video", "video": ..., "video_start": s, "video_end": s, "raw_fps": fps}`.

    Raises:
        MediaError: for a file that is not there, an address, what is no clip at all, or bounds that are no seconds.
    """
    video = part["video"]
    if not isinstance(video, str | os.PathLike | Sequence | torch.Tensor | np.ndarray):
        raise MediaError(f"clip {video!r}: is neither a path nor frames")
    name = str(video) if isinstance(video, str | os.PathLike) else f"of {len(video)} frames"
    stretch, frame_rate = stretch_of(part, name)
    if isinstance(video, str | os.PathLike):
        path = local_path(video, "clip")
        # Of a name that no file system takes, os.path says no, and Path.is_dir raises.
        source = frames_in(path) if os.path.isdir(path) else file_at(path, "clip")
    elif isinstance(video, torch.Tensor | np.ndarray):
        source = torch.as_tensor(video)
        if source.ndim != 4 or source.shape[1] != 3 or source.dtype != torch.uint8:
            raise MediaError(f"clip {name}: {source.dtype} of {tuple(source.shape)}, not uint8 of (frames, 3, H, W)")
    else:
        source = tuple(
            frame if isinstance(frame, Image.Image) else file_at(local_path(frame, "frame"), "frame") for frame in video
        )
    if not isinstance(source, File) and not len(source):
        raise MediaError(f"clip {name}: has no frame")
    return Clip(name, source, stretch, frame_rate)


def stretch_of(part: Mapping[str, Any], name: str) -> tuple[Stretch, float]:
    """The part of a clip that is seen, and the frame rate of frames and pixels.

    Raises:
        MediaError: for bounds or a rate that are no numbers, and for a rate that is not above 0.
    """
    start, stop, rate = (_number(part, key, name) for key in ("video_start", "video_end", "raw_fps"))
    if rate is not None and rate <= 0:
        raise MediaError(f"clip {name}: raw_fps={rate}, not above 0")
    return Stretch(start, stop), RELEASED_FPS if rate is None else rate


def image_of(part: Mapping[str, Any]) -> File | Image.Image:
    """Read a message's part `{"type": "image", "image": ...}`.

    Raises:
        MediaError: for a file that is not there, or an address.
    """
    image = part["image"]
    return image if isinstance(image, Image.Image) else file_at(local_path(image, "image"), "image")


def image_identity(image: File | Image.Image) -> Hashable:
    return _identity(image)


def frames_in(folder: Path) -> tuple[File, ...]:
    """The image files of a folder, `frame_10` behind `frame_9`."""
    paths = (path for path in folder.iterdir() if path.suffix.lower() in FRAME_FILES)
    return tuple(file_at(path, "frame") for path in sorted(paths, key=_natural))


def local_path(name: Any, kind: str) -> Path:
    """The path that a row names, absolute: no library takes it for an address or a protocol then.

    Raises:
        MediaError: for what is no local path.
    """
    text = os.fspath(name) if isinstance(name, str | os.PathLike) else None
    if not isinstance(text, str) or not text or "\0" in text or not _can_be_named(text):
        raise MediaError(f"{kind} {name!r}: is no path")
    text = text.removeprefix("file://")
    if "://" in text:
        raise MediaError(f"{kind} {text}: is an address, and only local files are read. Download it first")
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:  # "~somebody/clip.mp4"
        raise MediaError(f"{kind} {text}: is in the home folder of a user that is not known here") from error


def _can_be_named(text: str) -> bool:
    """False for half a surrogate pair, which JSON can hold and no file system."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


def file_at(path: Path, kind: str) -> File:
    """Look a file up.

    Raises:
        MediaError: if there is none.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise MediaError(f"{kind} {path}: {error.strerror}") from error
    if not path.is_file():
        raise MediaError(f"{kind} {path}: is no file")
    return File(str(path), status.st_size, status.st_mtime_ns)


def _number(part: Mapping[str, Any], key: str, name: str) -> float | None:
    value = part.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise MediaError(f"clip {name}: {key}={value!r} is no number")
    return float(value)


def _identity(source: File | Pixels | Iterable[File | Image.Image]) -> Hashable:
    if isinstance(source, File):
        return source
    if isinstance(source, Image.Image):
        return (source.mode, source.size, hashlib.blake2b(source.tobytes()).digest())
    if isinstance(source, torch.Tensor):
        return (tuple(source.shape), hashlib.blake2b(source.contiguous().numpy().data).digest())
    return tuple(_identity(frame) for frame in source)


@lru_cache(maxsize=65536)
def _digest(file: File) -> str:
    digest = hashlib.blake2b(digest_size=20)
    with open(file.path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _natural(path: Path) -> Any:
    """Digits by their value, the rest as it is: parts alternate, so that no number is compared with a word."""
    parts = re.split(r"([0-9]+)", path.name)  # the digits of other scripts are part of a word
    return [int(part) if place % 2 else part for place, part in enumerate(parts)]
