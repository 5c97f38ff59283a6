"""Three libraries that decode a clip, and the choice between them. All give the same frames of a file.

Frames count in the order of showing, from 0, without those that the file's edit list cuts off. The frame rate is what
the container says of its average. Pictures are turned as the file says they are to be shown.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import logging
import threading
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch

from verl_care.data.budget import WHOLE, Stretch, VideoBudget, frame_indices

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

FRAME_PIXELS = 1 << 24
"""Pixels of a clip's frame, at most: twice those of 4K, half of those of 8K. Frames are made smaller only once all that
are sampled have been decoded, and a file of a few kilobytes can hold frames of any size. 16 of this size take 0.8 GB,
and decoding them twice that; 8K's would not go into the 4 GiB that `check_media` gives a decoder."""


class MediaError(ValueError):
    """A clip or an image that cannot be used; the message names the file and the reason."""


class Decoded(NamedTuple):
    """The sampled frames of a clip."""

    frames: torch.Tensor
    """(F, 3, H, W) uint8."""
    indices: list[int]
    total: int
    """Frames of the whole clip."""
    fps: float
    """Of the whole clip, on average."""


Decoder = Callable[[str, list[int]], torch.Tensor]
"""Path and numbers of frames to (F, 3, H, W)."""


class Index(NamedTuple):
    """What can be told of a clip without decoding it."""

    total: int
    """Frames that are shown."""
    fps: float
    is_cut: bool
    """Its edit list leaves frames out."""
    height: int
    width: int
    """As they are stored, before turning."""


def decode(path: str, decoder: Decoder, budget: VideoBudget, stretch: Stretch = WHOLE) -> Decoded:
    """The frames of a clip that the budget asks for. PyAV says which they are, so they are the same with any decoder.

    PyAV also decodes what the others get wrong (tests/unit/test_same_frames.py): torchcodec 0.11.1 and decord 0.6.0
    show other frames of a clip that its edit list cuts, and decord fails on one that is turned.

    Raises:
        MediaError: if the file cannot be opened, its frames are above `FRAME_PIXELS`, or the stretch holds no frame
            that can be decoded.
    """
    from av.error import FFmpegError

    try:
        clip = indexed(path)
        check_frame_size(clip.height, clip.width)
        if clip.is_cut or (decoder is decord and _is_turned(path)):
            decoder = pyav
        indices = frame_indices(clip.total, clip.fps, budget, stretch)
        try:
            frames, total = decoder(path, indices), clip.total
        except TooFewFrames as error:
            total = error.decoded
            indices = frame_indices(total, clip.fps, budget, stretch)
            frames = decoder(path, indices)
    except (FFmpegError, RuntimeError, ValueError, OSError) as error:
        raise MediaError(f"clip {path}: {error}") from error
    return Decoded(frames, indices, total, clip.fps)


def indexed(path: str) -> Index:
    """Count a clip's frames. Containers lie about their number; packets are counted without decoding one.

    Raises:
        ValueError: if there is no video in it.
    """
    with opened(path) as container:
        if not container.streams.video:
            raise ValueError("has no video stream")
        stream = container.streams.video[0]
        packets = [packet.is_discard for packet in container.demux(stream) if packet.size > 0]
        coded = stream.codec_context
        rate = float(stream.average_rate or 0)
        return Index(packets.count(False), rate, any(packets), coded.height, coded.width)


def check_frame_size(height: int, width: int) -> None:
    """Raises:
    ValueError: for a frame of more than `FRAME_PIXELS`.
    """
    if height * width > FRAME_PIXELS:
        raise ValueError(f"frames of {width} x {height} pixels, more than {FRAME_PIXELS:,}. Make them smaller first")


class TooFewFrames(ValueError):
    """Fewer frames than packets: the clip was cut out of another without decoding it, or a packet is damaged."""

    def __init__(self, decoded: int):
        super().__init__(f"{decoded} frames can be decoded")
        self.decoded = decoded


def pyav(path: str, indices: list[int]) -> torch.Tensor:
    """Decode with PyAV, which carries its own FFmpeg. One frame at a time: a clip of minutes has gigabytes of them."""
    kept, decoded = {}, 0
    with opened(path) as container:
        container.streams.video[0].thread_type = "AUTO"
        for decoded, picture in enumerate(container.decode(video=0), start=1):
            if decoded - 1 in indices:
                pixels = torch.from_numpy(picture.to_ndarray(format="rgb24"))
                kept[decoded - 1] = torch.rot90(pixels, round(picture.rotation / 90)).permute(2, 0, 1).contiguous()
            if decoded > indices[-1]:
                break
    if decoded <= indices[-1]:
        raise TooFewFrames(decoded)
    return torch.stack([kept[index] for index in indices])


def torchcodec(path: str, indices: list[int]) -> torch.Tensor:
    """Decode with torchcodec, which needs FFmpeg's libraries on the machine."""
    from torchcodec.decoders import VideoDecoder

    return VideoDecoder(path, num_ffmpeg_threads=0).get_frames_at(indices).data.contiguous()


def decord(path: str, indices: list[int]) -> torch.Tensor:
    """Decode with decord 0.6.0, unmaintained since 2021: `data.video.decoder=decord` asks for it."""
    import decord as library

    try:
        pixels = library.VideoReader(path).get_batch(indices).asnumpy()
    except (library.DECORDError, library.DECORDLimitReachedError) as error:  # no RuntimeErrors
        raise ValueError(str(error).splitlines()[0]) from error
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def opened(path: str) -> Any:
    """PyAV's container of a clip, for `with`. A file that is a list of others (a playlist, say) reads files alone.

    Raises:
        FFmpegError: if it cannot be opened.
    """
    import av

    return av.open(path, options={"protocol_whitelist": "file"})


def _is_turned(path: str) -> bool:
    with opened(path) as container:
        return any(picture.rotation for picture in itertools.islice(container.decode(video=0), 1))


MODULES = {"torchcodec": "torchcodec.decoders", "pyav": "av", "decord": "decord"}


_CHOOSING = threading.Lock()  # a decoding thread each, and all would name it


def why_not(name: str) -> str:
    """Why a decoder does not load here; empty if it does."""
    if importlib.util.find_spec(MODULES[name].split(".")[0]) is None:
        return "it is not installed"
    try:
        importlib.import_module(MODULES[name])
    except (ImportError, OSError, RuntimeError) as error:  # no FFmpeg here, or one that it was not built for
        return str(error).strip().splitlines()[0]
    return ""


def chosen(name: str = "auto") -> Decoder:
    """The decoder of this name, or the first of torchcodec and PyAV that loads; named in the log once per process.

    Raises:
        MediaError: if the one that was asked for does not load.
    """
    with _CHOOSING:
        return _chosen(name)


@cache
def _chosen(name: str) -> Decoder:
    reasons = {candidate: why_not(candidate) for candidate in (("torchcodec", "pyav") if name == "auto" else (name,))}
    found = next((candidate for candidate, reason in reasons.items() if not reason), None)
    if found is None:
        raise MediaError(f"data.video.decoder={name} does not load: {reasons}. Set data.video.decoder=pyav")
    passed_over = "".join(f"; not {other}: {reason}" for other, reason in reasons.items() if reason)
    logger.info("clips are decoded with %s%s", found, passed_over)
    return {"torchcodec": torchcodec, "pyav": pyav, "decord": decord}[found]
