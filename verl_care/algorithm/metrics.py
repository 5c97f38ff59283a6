"""What `care/` metrics a training step logs. Pure.

Format and accuracy are never one number: models gather format reward first, and a sum hides which rose.
"""

from __future__ import annotations

import torch
from torch import Tensor

from verl_care.algorithm.advantage import GroupIds, group_advantage, group_index
from verl_care.algorithm.consistency import ConsistencyBonus


def care_metrics(
    accuracy_N: Tensor,
    format_N: Tensor,
    likelihood_N: Tensor,
    answered_N: Tensor,
    group_N: GroupIds,
    result: ConsistencyBonus,
    accuracy_threshold: float,
) -> dict[str, float]:
    """Means over a step's responses and groups.

    Args:
        accuracy_N, format_N: in [0, 1].
        likelihood_N: reference likelihood of the answer, NaN where there is none.
        answered_N: True where the response has an answer span.
        group_N: the prompt of each response.
        result: what `consistency_bonus` made of them.
        accuracy_threshold: at or below it a response is wrong.

    Returns:
        `care/...` -> value. `bonus_rate` and the likelihoods are of selected responses, and absent when
        none was selected or nothing was scored. `all_wrong_groups`, `all_correct_groups` and `equal_reward_groups`
        are fractions of the groups; a group of equal rewards has advantage 0 throughout.
    """
    index_N, size_P = group_index(group_N, like_N=accuracy_N)

    def fraction_of_groups(condition_N: Tensor) -> float:
        met_P = torch.zeros(len(size_P)).index_add_(0, index_N, condition_N.float())
        return float((met_P == size_P).float().mean())

    reward_N = accuracy_N + format_N + result.bonus_N
    metrics = {
        "care/accuracy": float(accuracy_N.mean()),
        "care/format": float(format_N.mean()),
        "care/bonus": float(result.bonus_N.mean()),
        "care/selected_fraction": float(result.selected_N.float().mean()),
        "care/no_answer_fraction": float((~answered_N).float().mean()),
        "care/all_wrong_groups": fraction_of_groups(accuracy_N <= accuracy_threshold),
        "care/all_correct_groups": fraction_of_groups(accuracy_N >= 1),
        "care/equal_reward_groups": fraction_of_groups(group_advantage(reward_N, group_N) == 0),
    }
    scored_N = result.selected_N & ~likelihood_N.isnan()
    if scored_N.any():
        chosen = likelihood_N[scored_N]
        metrics |= {
            "care/bonus_rate": float((result.bonus_N[scored_N] > 0).float().mean()),
            "care/likelihood_mean": float(chosen.mean()),
            "care/likelihood_min": float(chosen.min()),
            "care/likelihood_max": float(chosen.max()),
        }
    return metrics
