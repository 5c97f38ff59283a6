"""Registers CARE's group-relative advantage with verl as `algorithm.adv_estimator=care`."""

from __future__ import annotations

from typing import Any

import torch
from verl.trainer.ppo.core_algos import register_adv_est

from verl_care.algorithm.advantage import group_advantage


@register_adv_est("care")
def care_advantage(
    token_level_rewards: torch.Tensor, response_mask: torch.Tensor, index: Any, **_: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """`verl_care.algorithm.advantage.group_advantage` of each response's reward, on every one of its tokens.

    Args:
        token_level_rewards: (N, T); a response's reward is the sum over its row.
        response_mask: (N, T), 1 on the response's tokens.
        index: (N,) the prompt (uid) each response belongs to.

    Returns:
        advantages and returns, both (N, T) and equal, as verl's own estimators for outcome rewards.
    """
    advantage_N = group_advantage(token_level_rewards.sum(dim=-1), index)
    advantage_NT = advantage_N.unsqueeze(-1).to(token_level_rewards.dtype) * response_mask
    return advantage_NT, advantage_NT
