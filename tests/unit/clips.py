"""Clips to decode, of every kind that comes in data sets, and whether torchcodec can."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from verl_care.data import decoders

PATCH = 14


def needs(name):
    reason = decoders.why_not(name)
    return pytest.mark.skipif(bool(reason), reason=f"{name} does not load here: {reason}")


NEEDS_TORCHCODEC = needs("torchcodec")
DECODERS = [
    pytest.param(decoders.pyav, id="pyav"),
    pytest.param(decoders.torchcodec, id="torchcodec", marks=NEEDS_TORCHCODEC),
    pytest.param(decoders.decord, id="decord", marks=needs("decord")),
]


def write_clip(path, frames=24, fps=8, width=64, height=48, codec="mpeg4", times=None, half=False, bframes=0):
    """Frame i is grey of level 10 * i, so that decoded frames tell their number.

    Args:
        times: when each frame is shown, in 1/1000 s; None is one every 1/fps s.
        half: the left half is black in every frame, so that a picture tells which way up it is.
    """
    options = {"qscale": "1"} if codec == "mpeg4" else {"crf": "0", "bf": str(bframes), "g": "12"}
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream(codec, rate=fps, options=options)
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv444p" if codec == "libx264" and (width % 2 or height % 2) else "yuv420p"
        if times is not None:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for number in range(frames):
            picture = np.full((height, width, 3), 10 * number % 256, np.uint8)
            if half:
                picture[:, : width // 2] = 0
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return str(path)


def write_sound(path):
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 16000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    return str(path)


def turn(path, degrees):
    """Have a clip shown turned clockwise by 90, 180 or 270 degrees, by the matrix in its track header."""
    one = 1 << 16
    matrix = {90: (0, one, -one, 0), 180: (-one, 0, 0, -one), 270: (0, -one, one, 0)}[degrees]
    content = bytearray(Path(path).read_bytes())
    start = content.index(b"tkhd") + 4 + 40  # version 0: 40 bytes in front of the matrix
    content[start : start + 36] = struct.pack(">9i", *matrix[:2], 0, *matrix[2:], 0, 0, 0, 1 << 30)
    Path(path).write_bytes(content)
    return path


def cut(path, first, frames, fps=8):
    """Have a clip show `frames` frames from number `first` on, by its edit list, as a cut without encoding does."""
    content = bytearray(Path(path).read_bytes())
    movie, media = (content.index(name) + 4 + 12 for name in (b"mvhd", b"mdhd"))
    movie_scale, media_scale = (struct.unpack_from(">I", content, place)[0] for place in (movie, media))
    start = content.index(b"elst") + 4 + 8  # version and flags, number of entries
    begins = struct.unpack_from(">i", content, start + 4)[0]  # not 0 where frames are reordered
    struct.pack_into(">I", content, start, frames * movie_scale // fps)
    struct.pack_into(">i", content, start + 4, begins + first * media_scale // fps)
    Path(path).write_bytes(content)
    return path
