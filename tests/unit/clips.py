"""Clips to decode, and whether torchcodec can."""

import importlib

import av
import numpy as np
import pytest

PATCH = 14


def why_no_torchcodec() -> str:
    try:
        importlib.import_module("torchcodec.decoders")
    except (ImportError, OSError, RuntimeError) as error:
        return f"torchcodec does not load here (no FFmpeg?): {str(error).splitlines()[0]}"
    return ""


NEEDS_TORCHCODEC = pytest.mark.skipif(bool(why_no_torchcodec()), reason=why_no_torchcodec() or "it loads")


def write_clip(path, frames=24, fps=8, width=64, height=48, codec="mpeg4"):
    """Frame i is grey of level 10 * i, so that decoded frames tell their number."""
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream(codec, rate=fps, options={"qscale": "1"} if codec == "mpeg4" else {"crf": "0"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(frames):
            picture = np.full((height, width, 3), 10 * number % 256, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
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
