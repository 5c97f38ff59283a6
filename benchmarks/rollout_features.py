"""Processor time of a group in the rollout worker: pixel values once per prompt, against three times per response.

    python benchmarks/rollout_features.py [--responses G] [--repeats N]

One clip of the release's size (16 frames of 224 x 448, the largest within 128 * 28 * 28 pixels a frame) and one of the
quick start's. verl 0.9.1 runs the processor for a response's prompt, its score and its result: 3 G calls of which
only the text differs. Process time on one thread, ways in turns, medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch
from tqdm import tqdm

from recipes.quickstart.model import build_processor
from verl_care.data.features import remember_features

PROMPT = "<|vision_start|><|video_pad|><|vision_end|>What next?"


def group_seconds(processor: Any, frames: torch.Tensor, responses: int) -> float:
    count = len(frames)
    metadata = {"fps": 2.0, "frames_indices": list(range(count)), "total_num_frames": count, "video_backend": "none"}
    start = time.process_time()
    for response in range(responses):
        for text in (PROMPT, f"{PROMPT} {response}", f"{PROMPT} {response}"):
            processor(
                text=[text], videos=[frames], video_metadata=[metadata], do_sample_frames=False, return_tensors="pt"
            )
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--responses", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    torch.set_num_threads(1)

    stock, once = build_processor(), remember_features(build_processor())
    for name, shape in (("release", (16, 3, 224, 448)), ("quick start", (4, 3, 56, 56))):
        seconds: dict[str, list[float]] = {"stock": [], "once": []}
        for turn in tqdm(range(args.repeats + 1), unit="turn", leave=False):
            frames = torch.randint(0, 256, shape, dtype=torch.uint8)  # a new clip, as a new prompt has
            for way, processor in (("stock", stock), ("once", once)):
                spent = group_seconds(processor, frames, args.responses)
                if turn:
                    seconds[way].append(spent)
        before, after = (1000 * statistics.median(seconds[way]) for way in ("stock", "once"))
        print(f"{name:12} {before:7.1f} ms a group, once per prompt {after:6.1f} ms: {before / after:.1f} times")


if __name__ == "__main__":
    main()
