"""M-RoPE positions of a prompt with images and clips, as Qwen2-VL and Qwen2.5-VL learned them and vLLM has them. Pure.

Deviations from transformers 5.9.0 (`Qwen2_5_VLModel.get_rope_index`), which the training side of verl uses:

1. What follows an image or a clip starts behind its largest position, in whichever of the three dimensions that is.
   transformers looks at height and width alone, so that the question overlaps every clip that is longer than it is
   wide (modeling_qwen2_5_vl.py:1077; transformers 4 and vLLM 0.24.0 agree with us).
2. The seconds between two temporal patches are a real number. transformers makes them an integer first: 0 for
   everything sampled above 2 frames a second (modeling_qwen2_5_vl.py:1070).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

TEXT, IMAGE, VIDEO = 0, 1, 2  # transformers' mm_token_type_ids


def vision_positions(grid_thw: tuple[int, int, int], temporal_step: float) -> Tensor:
    """Positions (3, t * h * w) of one image's or clip's tokens, from 0; temporal patch i at floor(i * temporal_step).

    Args:
        grid_thw: temporal patches, merged rows, merged columns.
        temporal_step: positions between two temporal patches, as vLLM a real number.
    """
    t, h, w = (torch.arange(size) for size in grid_thw)
    t = (t.double() * temporal_step).floor().long()
    return torch.stack(torch.meshgrid(t, h, w, indexing="ij")).reshape(3, -1)


def rope_index(
    input_ids: Tensor,
    mm_token_type_ids: Tensor,
    image_grid_thw: Tensor | None,
    video_grid_thw: Tensor | None,
    second_per_grid_ts: Tensor | None,
    attention_mask: Tensor | None,
    *,
    spatial_merge_size: int,
    tokens_per_second: float | None,
) -> tuple[Tensor, Tensor]:
    """Positions of a batch of prompts; arguments and result as `get_rope_index` of transformers 5.9.0.

    Args:
        input_ids: (N, L).
        mm_token_type_ids: (N, L): 0 text, 1 image, 2 clip.
        image_grid_thw, video_grid_thw: (media, 3) in patches, in reading order over the whole batch.
        second_per_grid_ts: seconds between two temporal patches of each clip; None is one second.
        attention_mask: (N, L), 0 on padding; None is all ones.
        spatial_merge_size: patches merged into a token, along each side.
        tokens_per_second: positions a second (Qwen2.5-VL: 2); None: one position a temporal patch (Qwen2-VL).

    Returns:
        positions (3, N, L), 0 on padding, and (N, 1): the next position minus the prompt's length.
    """
    grids = {IMAGE: _rows(image_grid_thw), VIDEO: _rows(video_grid_thw)}
    seconds = iter(second_per_grid_ts.tolist()) if second_per_grid_ts is not None else None
    positions = torch.zeros(3, *input_ids.shape, dtype=input_ids.dtype, device=input_ids.device)
    next_position = []
    for row, types in enumerate(mm_token_type_ids):
        kept = torch.ones_like(types, dtype=torch.bool) if attention_mask is None else attention_mask[row].bool()
        kinds, lengths = torch.unique_consecutive(types[kept], return_counts=True)
        parts, start = [], 0
        for kind, length in zip(kinds.tolist(), lengths.tolist(), strict=True):
            if kind == TEXT:
                part = torch.arange(length).expand(3, -1)
            else:
                t, h, w = next(grids[kind])
                step = 1.0
                if kind == VIDEO and tokens_per_second is not None:
                    step = tokens_per_second * (next(seconds) if seconds is not None else 1.0)
                part = vision_positions((t, h // spatial_merge_size, w // spatial_merge_size), step)
            parts.append(part + start)
            start = int(parts[-1].max()) + 1
        positions[:, row, kept] = torch.cat(parts, dim=1).to(positions)
        next_position.append(start - int(kept.sum()))
    return positions, torch.tensor(next_position, device=input_ids.device).unsqueeze(1)


def _rows(grid_thw: Tensor | None) -> Iterator[list[int]]:
    return iter([] if grid_thw is None else grid_thw.tolist())
