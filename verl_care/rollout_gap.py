"""How far the policy that sampled (vLLM) is from the one that is trained (FSDP), from sums that add up. Pure.

verl 0.9.1 takes these metrics from the log-probabilities of a whole batch (utils/debug/metrics.py). An update sees the
batch in micro-batches on several ranks, so each gives sums, and the metrics come from their total: the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

SUMS = ("tokens", "gap", "gap_squared", "actor", "rollout", "actor_squared", "rollout_squared", "product")
LARGEST = "largest"


@torch.no_grad()
def gap_sums(log_prob_NT: Tensor, rollout_log_prob_NT: Tensor, mask_NT: Tensor) -> dict[str, float]:
    """Sums over the tokens in the mask, of the actor's probabilities p, the rollout's q and the gap |p - q|.

    Args:
        log_prob_NT: log p, of the policy that is trained.
        rollout_log_prob_NT: log q, of the same tokens when they were sampled.
        mask_NT: True where a token counts.

    Returns:
        a value for each name of `SUMS`, to be added up over micro-batches and ranks, and for `LARGEST`, the largest gap
        (0 without a token), of which the largest counts.
    """
    p = log_prob_NT[mask_NT].exp().double()
    q = rollout_log_prob_NT[mask_NT].exp().double()
    gap = (p - q).abs()
    terms = torch.stack([torch.ones_like(p), gap, gap * gap, p, q, p * p, q * q, p * q]).sum(1)
    largest = gap.max() if gap.numel() else gap.new_zeros(())
    values = torch.cat([terms, largest.unsqueeze(0)]).tolist()  # one transfer from the device
    return dict(zip((*SUMS, LARGEST), values, strict=True))


def gap_metrics(total: Mapping[str, float]) -> dict[str, float]:
    """verl's `training/rollout_...` metrics from the totals of `gap_sums`.

        mean = sum |p - q| / n        std = sqrt((sum |p - q|^2 - n mean^2) / (n - 1))
        corr = (n sum pq - sum p sum q) / sqrt((n sum p^2 - (sum p)^2) (n sum q^2 - (sum q)^2))

    Without a token all are NaN but `valid`, which is 0. So is the spread of one token, and the correlation of
    probabilities that are all equal.
    """
    n = total["tokens"]
    if n == 0:
        mean = std = largest = correlation = math.nan
    else:
        mean, largest = total["gap"] / n, total[LARGEST]
        # a difference of sums can fall below zero by rounding
        std = math.sqrt(max(total["gap_squared"] - n * mean**2, 0.0) / (n - 1)) if n > 1 else math.nan
        spread_p = n * total["actor_squared"] - total["actor"] ** 2
        spread_q = n * total["rollout_squared"] - total["rollout"] ** 2
        covariance = n * total["product"] - total["actor"] * total["rollout"]
        correlation = covariance / math.sqrt(spread_p * spread_q) if spread_p > 0 and spread_q > 0 else math.nan
    return {
        "training/rollout_probs_diff_valid": float(n > 0),
        "training/rollout_probs_diff_max": largest,
        "training/rollout_probs_diff_mean": mean,
        "training/rollout_probs_diff_std": std,
        "training/rollout_actor_probs_pearson_corr": correlation,
    }
