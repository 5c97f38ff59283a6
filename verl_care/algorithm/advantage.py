"""Group-relative advantage, and the group arithmetic it shares with the consistency bonus. Pure.

Shapes: `_N` responses of a batch, `_P` prompts (groups) of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

# What tells the responses of one prompt from another's: integers or strings, of one kind.
GroupIds = Tensor | np.ndarray | Sequence[int] | Sequence[str]


@torch.no_grad()
def group_advantage(reward_N: Tensor, group_N: GroupIds, epsilon: float = 1e-4) -> Tensor:
    """Reward of each response relative to the other responses of its prompt.

        A = (R - mean R) / (std R + epsilon)        mean and std (ddof = 1) over the response's own group

    Source: GRPO (arXiv 2402.03300) as arXiv 2506.16141 uses it; `compute_loss` in `trainer/grpo_trainer_ref_ema.py`
    of the release.

    Args:
        reward_N: rewards, any real dtype.
        group_N: the prompt of each response. Groups may be interleaved and of any size.
        epsilon: added to the standard deviation, in units of the reward. 1e-4 in the release, 1e-6 in verl.

    Returns:
        (N,), without gradient, in the dtype of the reward, float32 at least. Exactly 0 where all rewards of a group
        are equal.

    Raises:
        ValueError: shapes that do not match, a negative epsilon.

    Deviations from the release:

    1. A group of one has advantage 0: one response says nothing about what is better, and its standard deviation does
       not exist (NaN in the release; verl takes the reward itself, so a lone wrong response would be reinforced).
    2. Sums are float64, over rewards shifted by the group's smallest. In float32 eight equal rewards can differ from
       their mean in the last bit, which 1e-4 turns into an advantage.
    """
    if epsilon < 0:
        raise ValueError(f"epsilon is {epsilon}, but a negative one can divide by zero: pass epsilon >= 0")
    if reward_N.ndim != 1:
        raise ValueError(f"reward_N has shape {tuple(reward_N.shape)}, expected one reward per response, (N,)")
    group_index_N, size_P = group_index(group_N, like_N=reward_N)
    reward64_N = reward_N.double()
    lowest_P = reward64_N.new_zeros(len(size_P)).scatter_reduce_(
        0, group_index_N, reward64_N, reduce="amin", include_self=False
    )
    shifted_N = reward64_N - lowest_P[group_index_N]
    mean_P = group_sum(shifted_N, group_index_N, size_P) / size_P
    centred_N = shifted_N - mean_P[group_index_N]
    variance_P = group_sum(centred_N.square(), group_index_N, size_P) / (size_P - 1).clamp(min=1)
    advantage_N = centred_N / (variance_P.sqrt() + epsilon)[group_index_N]
    return advantage_N.to(torch.promote_types(reward_N.dtype, torch.float32))


def group_index(group_N: GroupIds, like_N: Tensor) -> tuple[Tensor, Tensor]:
    """Number the groups: (index of each response's group, (N,); size of each group, (P,)), on the device of `like_N`.

    Raises:
        ValueError: `group_N` does not name one group for each entry of `like_N`.
    """
    if isinstance(group_N, Tensor):
        _, index_N, size_P = torch.unique(group_N.detach(), return_inverse=True, return_counts=True)
    else:
        _, index, size = np.unique(np.asarray(group_N), return_inverse=True, return_counts=True)
        index_N, size_P = torch.from_numpy(index), torch.from_numpy(size)
    if index_N.shape != like_N.shape:
        raise ValueError(
            f"group_N has shape {tuple(index_N.shape)} for {len(like_N)} responses: pass one group id per response"
        )
    return index_N.to(like_N.device), size_P.to(like_N.device)


def group_sum(value_N: Tensor, group_index_N: Tensor, size_P: Tensor) -> Tensor:
    """Sum over each group, (P,), in the dtype of `value_N`."""
    return value_N.new_zeros(len(size_P)).index_add_(0, group_index_N, value_N)
