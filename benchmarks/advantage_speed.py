"""Consistency bonus and advantage of a million responses, against verl's own group-relative advantage.

    python benchmarks/advantage_speed.py [--responses N] [--group-size G] [--skip-verl]

Both get the same rewards and the same interleaved integer prompt ids, on one CPU thread. Ours computes the bonus as
well. verl's `compute_grpo_outcome_advantage` goes through the responses one by one in Python.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from verl_care.algorithm.advantage import group_advantage
from verl_care.algorithm.consistency import consistency_bonus


def seconds(function: Callable[[], Tensor], repeats: int) -> tuple[float, Tensor]:
    """Best of `repeats`, and what the function returns."""
    best, result = float("inf"), torch.empty(0)
    for _ in range(repeats):
        start = time.perf_counter()
        result = function()
        best = min(best, time.perf_counter() - start)
    return best, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--responses", type=int, default=1_000_000)
    parser.add_argument("--group-size", type=int, default=8)
    parser.add_argument("--skip-verl", action="store_true", help="only ours; verl's takes about 20 s a million")
    args = parser.parse_args()

    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    count = args.responses
    prompt_N = torch.arange(count)[torch.randperm(count, generator=generator)] // args.group_size
    accuracy_N = (torch.rand(count, generator=generator) < 0.5).float()
    format_N = (torch.rand(count, generator=generator) < 0.9).float()
    likelihood_N = torch.rand(count, generator=generator)

    def ours() -> Tensor:
        bonus_N = consistency_bonus(accuracy_N, likelihood_N, prompt_N).bonus_N
        return group_advantage(accuracy_N + format_N + bonus_N, prompt_N)

    our_seconds, our_advantage_N = seconds(ours, repeats=3)
    print(f"verl_care, bonus and advantage of {count:,} responses: {our_seconds:.3f} s")
    if args.skip_verl:
        return

    from verl.trainer.ppo.core_algos import compute_grpo_outcome_advantage

    reward_N = accuracy_N + format_N + consistency_bonus(accuracy_N, likelihood_N, prompt_N).bonus_N

    def verls() -> Tensor:
        advantage_N1, _ = compute_grpo_outcome_advantage(
            reward_N.unsqueeze(1), torch.ones(count, 1), index=prompt_N.numpy(), epsilon=1e-4
        )
        return advantage_N1.squeeze(1)

    verl_seconds, verl_advantage_N = seconds(verls, repeats=1)
    print(f"verl, advantage alone: {verl_seconds:.3f} s")
    print(f"ratio: {verl_seconds / our_seconds:.0f}")
    # A group of one is left out: there ours is 0 by decision, and verl's the reward itself.
    shared_N = torch.bincount(prompt_N)[prompt_N] > 1
    difference_N = (our_advantage_N - verl_advantage_N).abs()[shared_N]
    print(f"largest difference between the two: {difference_N.max().item():.1e}")


if __name__ == "__main__":
    main()
