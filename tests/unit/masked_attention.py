"""What packed attention is compared with: one softmax under a mask of the size row x row."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from verl_care.packing.attention import PLAN
from verl_care.packing.layout import Layout

MASKED = "care_packed_masked"
"""Its name in transformers' AttentionInterface."""


def mask_of(layout: Layout) -> Tensor:
    """Bool (T, T), True where the token of the row may look at the token of the column."""
    group_T, segment_T, is_prompt_T = (torch.zeros_like(layout.flat_T) for _ in range(3))
    for number, group in enumerate(layout.groups):
        group_T[group.prompt.start : group.answers.stop] = number
        is_prompt_T[slice(*group.prompt)] = 1
    for number, span in enumerate(layout.segments):
        segment_T[slice(*span)] = number
    place_T = torch.arange(len(layout.flat_T))
    causal_TT = place_T[:, None] >= place_T[None, :]
    same_group_TT = group_T[:, None] == group_T[None, :]
    visible_TT = (segment_T[:, None] == segment_T[None, :]) | is_prompt_T[None, :].bool()
    return causal_TT & same_group_TT & visible_TT


def masked_forward(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    query, key = query.to(value.dtype), key.to(value.dtype)  # rotary embeddings may have made them wider
    mask, few = mask_of(kwargs[PLAN].layout), query.size(1) != key.size(1)
    out = nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, scale=kwargs["scaling"], enable_gqa=few
    )
    return out.transpose(1, 2).contiguous(), None


AttentionInterface.register(MASKED, masked_forward)
