"""Checks of the machine: decoders, accelerator, memory, shared memory."""

from __future__ import annotations

import ctypes.util
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from verl_care.doctor.finding import FAIL, NOTE, OK, Finding, error_of, version_of
from verl_care.platforms import has_accelerator

TORCHCODEC = "torchcodec==0.11.1"  # the release for torch 2.11
GIB = 2**30
RANK_GIB = 9  # one CPU rank with vLLM: 8.6 GiB measured
SHM_GIB = 1  # Docker's default, 64 MiB, holds not even one bucket of weights
SHM = Path("/dev/shm")


def decoders() -> Finding:
    """Decodes a clip made here: an import alone proves nothing."""
    from verl_care.data import decoders as codecs

    with tempfile.TemporaryDirectory() as folder:
        clip = str(Path(folder) / "clip.mp4")
        _write_clip(clip)
        if error := error_of(lambda: _decode(codecs.pyav, clip)):
            return Finding(FAIL, "decoders", f"PyAV: {error}", "python -m pip install --force-reinstall --no-deps av")
        if importlib.util.find_spec("torchcodec") is None:
            return Finding(NOTE, "decoders", "PyAV decodes; no torchcodec here", f"python -m pip install {TORCHCODEC}")
        error = error_of(lambda: _decode(codecs.torchcodec, clip))
    if not error:
        return Finding(OK, "decoders", "torchcodec and PyAV decode a clip")
    torch, codec = version_of("torch") or "none", version_of("torchcodec")
    if ctypes.util.find_library("avutil") is None:
        return Finding(
            NOTE, "decoders", f"PyAV decodes; torchcodec {codec} finds no FFmpeg libraries", "apt-get install ffmpeg"
        )
    return Finding(
        NOTE,
        "decoders",
        f"PyAV decodes; torchcodec {codec} with torch {torch} does not: {error}",
        f"python -m pip install torch==2.11.0 {TORCHCODEC}, and FFmpeg 4 to 8",
    )


def accelerator() -> Finding:
    """The platform verl chose, and what it has."""
    from verl.plugin.platform import get_platform

    platform = get_platform()
    if platform.device_name == "cpu":
        return Finding(NOTE, "accelerator", f"none used: verl on {os.cpu_count()} CPU cores, for small models")
    if not platform.is_available():
        if has_accelerator():
            text = f"torch cannot use this machine's {platform.device_name}"
            return Finding(FAIL, "accelerator", text, "nvidia-smi shows the driver, which must know CUDA 13")
        text = f"none, but verl uses {platform.device_name}"
        return Finding(FAIL, "accelerator", text, "unset VERL_PLATFORM, and see plug-in above")
    device: Any = platform.device_module
    devices = range(platform.device_count())
    text = ", ".join(f"{device.get_device_name(i)} ({device.mem_get_info(i)[1] / GIB:.0f} GiB)" for i in devices)
    return Finding(OK, "accelerator", text)


def memory() -> Finding:
    """What a process may still take: of the machine, and of a container's limit."""
    import psutil

    free = psutil.virtual_memory().available
    limit, used = (_number_in(Path("/sys/fs/cgroup", name)) for name in ("memory.max", "memory.current"))
    if limit is not None and used is not None:
        free = min(free, limit - used)
    text = f"{free / GIB:.1f} GiB free"
    if free < RANK_GIB * GIB:
        return Finding(NOTE, "memory", f"{text}; one rank of the quick start takes {RANK_GIB}", "end other programs")
    return Finding(OK, "memory", text)


def shared_memory() -> Finding:
    """Weights travel to vLLM through /dev/shm, and killed runs leave theirs behind."""
    from verl_care.processes import shared_memory as shm

    free = shutil.disk_usage(SHM).free
    text = f"{free / GIB:.1f} GiB free in /dev/shm"
    if free < SHM_GIB * GIB:
        return Finding(FAIL, "shared memory", text, "docker run --shm-size=16g, or mount -o remount,size=16g /dev/shm")
    mine = {str(path) for path in SHM.iterdir() if path.name.startswith(shm.PREFIXES) and _is_mine(path)}
    stale = sorted(mine - shm._mapped())
    if stale:
        line = "rm " + " ".join(f"/dev/shm/{prefix}*" for prefix in shm.PREFIXES) + "  (while nothing trains)"
        return Finding(NOTE, "shared memory", f"{text}; {len(stale)} segments that no process uses", line)
    return Finding(OK, "shared memory", f"{text}, nothing left by earlier runs")


def _write_clip(path: str, frames: int = 16) -> None:
    """A clip whose n-th frame has brightness 8 n."""
    import av
    import numpy as np

    with av.open(path, "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=8)
        stream.width = stream.height = 64
        for index in range(frames):
            picture = np.full((64, 64, 3), 8 * index, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def _decode(decoder: Callable[..., Any], path: str) -> None:
    from verl_care.data.budget import VideoBudget
    from verl_care.data.decoders import decode

    frames, indices, *_ = decode(path, decoder, VideoBudget(fps=2, min_frames=4, max_frames=4))
    brightness = frames.float().mean(dim=(1, 2, 3)).tolist()
    if any(abs(found - 8 * index) > 4 for found, index in zip(brightness, indices, strict=True)):
        raise ValueError(f"frames {indices} have brightness {brightness}, not 8 times their number")


def _number_in(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # no control group, or the word "max"
        return None


def _is_mine(path: Path) -> bool:
    try:
        return path.lstat().st_uid == os.getuid()
    except FileNotFoundError:  # its owner has just removed it
        return False
