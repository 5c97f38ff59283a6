"""`actor_rollout_ref.actor.freeze_vision_tower`, which verl 0.9.1 accepts and does not do."""

from __future__ import annotations

from torch import nn

TOWER = "visual"  # its name in Qwen2-VL, Qwen2.5-VL and Qwen3-VL; the projection into the language model is part of it


def freeze_vision_tower(model: nn.Module) -> int:
    """Take the tower's parameters out of training; returns how many tensors that are.

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
