"""The vision tower of a model: run once a pass, whatever a rank's rows show, and frozen if asked for."""

from __future__ import annotations

from typing import Any

import torch
import wrapt
from torch import nn

TOWER = "visual"  # its name in Qwen2-VL, Qwen2.5-VL and Qwen3-VL; the projection into the language model is part of it


def freeze_vision_tower(model: nn.Module) -> int:
    """`actor_rollout_ref.actor.freeze_vision_tower`, which verl 0.9.1 accepts and does not do.

    Takes the tower's parameters out of training; returns how many tensors that are.

    Their gradients stay None, so an optimizer that holds them leaves them alone: no step, no moments, no weight decay,
    and nothing in the gradient's norm. Works on a model that FSDP2 has sharded, before its first pass: a parameter is
    gathered as what it is marked then.

    Raises:
        ValueError: a model without a tower of that name.
    """
    towers = [part for name, part in model.named_modules() if name.rpartition(".")[2] == TOWER]
    if not towers:
        raise ValueError(
            f"actor_rollout_ref.actor.freeze_vision_tower=true: {type(model).__name__} has no part named {TOWER!r}."
            " Set actor_rollout_ref.actor.freeze_vision_tower=false for this model."
        )
    parameters = list(towers[0].parameters())
    for parameter in parameters:
        parameter.requires_grad_(False)
    return len(parameters)


def embed_text_and_vision(
    model: Any,
    input_ids: Any,
    attention_mask: Any = None,
    pixel_values: Any = None,
    pixel_values_videos: Any = None,
    image_grid_thw: Any = None,
    video_grid_thw: Any = None,
) -> tuple[Any, Any]:
    """Token embeddings with the vision tower's features in place of the image and video tokens."""
    from verl.utils.transformers_compat import unpack_visual_output

    embeds = model.get_input_embeddings()(input_ids)
    kinds = [
        ("Image", model.config.image_token_id, pixel_values, image_grid_thw),
        ("Video", model.config.video_token_id, pixel_values_videos, video_grid_thw),
    ]
    present = [kind for kind in kinds if kind[2] is not None]
    if present:
        pixels = torch.cat([pixels.type(model.visual.dtype) for _, _, pixels, _ in present])
        grid_thw = torch.cat([grid for _, _, _, grid in present])
    else:
        vision = model.config.vision_config
        patch_size = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
        pixels = torch.zeros((16, patch_size), dtype=embeds.dtype, device=embeds.device)
        grid_thw = torch.tensor([[1, 4, 4]], dtype=torch.long, device=embeds.device)

    features, _ = unpack_visual_output(model.visual(pixels, grid_thw=grid_thw))
    features = features.to(embeds.device, embeds.dtype)
    merge = model.visual.spatial_merge_size**2
    for name, token_id, _, grid in present:
        mine = int(grid.prod(-1).sum()) // merge
        mask = input_ids == token_id
        if int(mask.sum()) != mine:
            raise ValueError(f"{name} features and tokens do not match: {int(mask.sum())} tokens, {mine} features")
        embeds = embeds.masked_scatter(mask.unsqueeze(-1).expand_as(embeds), features[:mine])
        features = features[mine:]
    if not present:
        embeds = embeds + 0.0 * features.mean()

    return embeds, attention_mask if attention_mask is None else attention_mask.to(embeds.device)


class SeenTogether(wrapt.ObjectProxy):
    """A model whose tower has seen these pixels in one call, and hands out each kind's share of what it made."""

    def __init__(self, model: Any, *kinds: tuple[Any, Any]):
        from verl.utils.transformers_compat import unpack_visual_output

        super().__init__(model)
        tower = model.visual
        pixels, grids = zip(*kinds, strict=True)
        together = torch.cat([part.type(tower.dtype) for part in pixels])
        features, layers = unpack_visual_output(tower(together, grid_thw=torch.cat(grids)))
        sizes = [int(grid.prod(-1).sum()) // tower.spatial_merge_size**2 for grid in grids]
        self._self_grids = grids
        self._self_parts = list(zip(*(made.split(sizes) for made in (features, *(layers or ()))), strict=True))

    @property
    def visual(self) -> Any:
        tower = self.__wrapped__.visual

        def part(_pixels: Any, grid_thw: Any) -> tuple[Any, list[Any]]:
            (place,) = (place for place, grid in enumerate(self._self_grids) if grid is grid_thw)
            features, *layers = self._self_parts[place]
            return features, layers

        part.dtype = tower.dtype  # type: ignore[attr-defined]
        return part
