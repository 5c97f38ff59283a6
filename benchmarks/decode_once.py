"""Decoding for a group of responses: ours, against verl 0.9.1's own dataset, in one run.

    python benchmarks/decode_once.py

verl asks the dataset class for a prompt's media once per response. Its own class decodes at every call, through
qwen-vl-utils; ours decodes at the first. Both get the same H.264 clips, made here, the same budget and the same
decoder: the one that qwen-vl-utils can use on this machine, which is torchcodec (needs FFmpeg's libraries) or decord.
Ours runs with PyAV besides, which it takes where torchcodec does not load.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from omegaconf import DictConfig, OmegaConf

PATCH = 14


@dataclass
class Measured:
    """What one way of decoding took."""

    name: str
    decodes: int
    wall_s: float
    cpu_s: float


def write_clip(path: Path, seconds: int, fps: int = 30, width: int = 640, height: int = 360) -> None:
    """Coarse shapes that move over fine noise, so that the encoder has something to do."""
    generator = np.random.default_rng(len(path.name))
    shapes = generator.integers(0, 256, (6, 8, 3), dtype=np.uint8).repeat(height // 6, 0).repeat(width // 8, 1)
    with av.open(str(path), "w", format="mp4") as container:
        stream: Any = container.add_stream("libx264", rate=fps, options={"crf": "23", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(seconds * fps):
            noise = generator.integers(0, 24, (height, width, 3), dtype=np.uint8)
            picture = np.roll(shapes, (2 * number, 3 * number), (0, 1)) // 2 + noise
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def measure(name: str, dataset: Any, config: DictConfig, prompts: list[list[dict]], decodes: list[str]) -> Measured:
    """All responses of all prompts ask at once, as verl's rollout workers do."""

    async def ask_all() -> None:
        asked = [
            dataset.process_multi_modal_info(messages, image_patch_size=PATCH, config=config) for messages in prompts
        ]
        for _, videos, _ in await asyncio.gather(*asked):
            assert len(videos[0][0]) == config.video.max_frames

    decodes.clear()
    wall, cpu = time.perf_counter(), time.process_time()
    asyncio.run(ask_all())
    return Measured(name, len(decodes), time.perf_counter() - wall, time.process_time() - cpu)


def counted(function: Callable, decodes: list[str]) -> Callable:
    """The function itself, and a note of each call."""

    def call(*arguments: Any) -> Any:
        decodes.append("")
        return function(*arguments)

    call.__name__ = function.__name__
    return call


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--responses", type=int, default=8, help="of each prompt")
    parser.add_argument("--prompts", type=int, default=4, help="each with a clip of its own")
    parser.add_argument("--seconds", type=int, default=20, help="of each clip, 640 x 360 at 30 frames a second")
    args = parser.parse_args()
    logging.disable(logging.WARNING)

    from verl_care.data import decoders, media

    reader = next((name for name in ("torchcodec", "decord") if not decoders.why_not(name)), None)
    if reader is None:
        raise SystemExit(
            "qwen-vl-utils has no reader on this machine, so verl's own dataset cannot decode a clip here:"
            f" torchcodec: {decoders.why_not('torchcodec')}; decord: {decoders.why_not('decord')}."
            " Install one of them: apt-get install ffmpeg, or pip install decord==0.6.0"
        )
    os.environ["FORCE_QWENVL_VIDEO_READER"] = reader
    from qwen_vl_utils import vision_process
    from verl.utils.dataset.rl_dataset import RLHFDataset

    from verl_care.data.dataset import CareDataset

    decodes: list[str] = []
    backends = vision_process.VIDEO_READER_BACKENDS
    backends[reader] = counted(backends[reader], decodes)
    media.load_clip = counted(media.load_clip, decodes)

    with tempfile.TemporaryDirectory() as folder:
        budget = {"fps": 2.0, "min_frames": 4, "max_frames": 16, "max_pixels": 128 * 28 * 28}
        prompts = []
        for number in range(args.prompts):
            path = Path(folder) / f"clip_{number}.mp4"
            write_clip(path, args.seconds)
            # verl's own dataset takes the budget from the message, ours from the configuration
            content = [{"type": "video", "video": str(path), **budget}, {"type": "text", "text": "What next?"}]
            prompts.append([{"role": "user", "content": content}])
        rollout = [messages for messages in prompts for _ in range(args.responses)]

        def config(decoder: str) -> DictConfig:
            return OmegaConf.create({"video": {**budget, "decoder": decoder}, "image": {}})

        for decoder in {reader, "pyav"}:  # libraries load, thread pools start
            measure("", CareDataset, config(decoder), prompts[:1], decodes)
        measure("", RLHFDataset, config(reader), prompts[:1], decodes)
        media._library.cache_clear()
        stock = measure(f"verl's RLHFDataset, {reader}", RLHFDataset, config(reader), rollout, decodes)
        same = measure(f"CareDataset, {reader}", CareDataset, config(reader), rollout, decodes)
        ours = measure("CareDataset, pyav", CareDataset, config("pyav"), rollout, decodes)

    print(f"{args.prompts} prompts with a clip of {args.seconds} s each, {args.responses} responses a prompt")
    print(f"{'':<32}{'decodes':>9}{'wall s':>9}{'CPU s':>9}    fewer, faster (wall), faster (CPU)")
    for row in (stock, same, ours):
        ratios = [stock.decodes / row.decodes, stock.wall_s / row.wall_s, stock.cpu_s / row.cpu_s]
        times = f"{row.decodes:>9}{row.wall_s:>9.2f}{row.cpu_s:>9.2f}"
        print(f"{row.name:<32}{times}    " + "  ".join(f"{ratio:.1f}x" for ratio in ratios))


if __name__ == "__main__":
    main()
