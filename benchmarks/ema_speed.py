"""The reference's EMA update against one copy of the same bytes, and its distance, against what they were before.

    python benchmarks/ema_speed.py [--gigabytes G] [--repeats N] [--threads T]

500 float32 shards of mixed size (half the bytes in 20 large ones, as of embeddings and projections), policy in float32
and in bfloat16. Ways are interleaved and medians compared, all in process time, which other programs disturb little.

Roofline: a copy reads 4 bytes an element and writes 4; on a CPU the write first fetches its line, so 12 bytes move. The
update reads both shards and writes one that is in the cache already: 12 bytes with a float32 policy, 10 with bfloat16.
A bfloat16 policy is converted on the way, and so is it in the copy of the policy into float32.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from tqdm import tqdm

from verl_care.algorithm.ema import distance_sums, ema_update_

DECAY = 0.995


def shards(elements: int, generator: torch.Generator) -> list[Tensor]:
    """480 shards of 2^8 to 2^20 elements, log-uniform and scaled to half of `elements`, and 20 that share the rest."""
    weights = 2 ** (8 + 12 * torch.rand(480, generator=generator))
    small = (weights / weights.sum() * elements / 2).long().clamp(min=1).tolist()
    return [torch.randn(size, generator=generator) for size in [*small, *[elements // 40] * 20]]


def earlier_update(reference: list[Tensor], policy: list[Tensor]) -> None:
    """A parameter at a time, the policy's converted whole."""
    for ref, pol in zip(reference, policy, strict=True):
        ref.lerp_(pol.to(ref), 1 - DECAY)


def earlier_distance(reference: list[Tensor], policy: list[Tensor]) -> Tensor:
    """Whole temporary tensors, norms in float64."""
    sums = torch.zeros(2, dtype=torch.float64)
    for ref, pol in zip(reference, policy, strict=True):
        pol = pol.to(ref)
        sums[0] += torch.linalg.vector_norm(ref - pol, dtype=torch.float64).square()
        sums[1] += torch.linalg.vector_norm(pol, dtype=torch.float64).square()
    return sums


def ways(reference: list[Tensor], policy: list[Tensor]) -> dict[str, Callable[[], object]]:
    copies = [torch.empty_like(ref) for ref in reference]
    return {
        "one copy of the reference": lambda: [to.copy_(ref) for to, ref in zip(copies, reference, strict=True)],
        "one copy of the policy": lambda: [to.copy_(pol) for to, pol in zip(copies, policy, strict=True)],
        "update": lambda: ema_update_(reference, policy, DECAY),
        "update, as it was": lambda: earlier_update(reference, policy),
        "distance": lambda: distance_sums(reference, policy),
        "distance, as it was": lambda: earlier_distance(reference, policy),
    }


def medians(ways: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median process seconds of each, in turns, after one warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in tqdm(range(repeats + 1), unit="turn", leave=False):
        for name, way in ways.items():
            start = time.process_time()
            way()
            if turn:
                seconds[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=1.0, help="of the float32 reference")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1, help="process time adds up over threads")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    reference = shards(int(args.gigabytes * 1e9 / 4), torch.Generator().manual_seed(0))

    for dtype in (torch.float32, torch.bfloat16):
        policy = [(ref + 0.01 * ref.flip(0)).to(dtype) for ref in reference]
        with torch.no_grad():
            found = medians(ways(reference, policy), args.repeats)
        copy, cast = found["one copy of the reference"], found["one copy of the policy"]
        print(
            f"policy in {str(dtype).removeprefix('torch.')}; in copies of the reference, and of the policy into float32"
        )
        for name, seconds in found.items():
            print(f"  {name:27} {seconds:7.3f} s   {seconds / copy:5.2f}   {seconds / cast:5.2f}")


if __name__ == "__main__":
    main()
