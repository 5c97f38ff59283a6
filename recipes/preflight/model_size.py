"""What of a model its memory depends on, read from its config.json alone: nothing is downloaded and no weight made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ModelSize:
    """Counts of parameters, and widths."""

    parameters: int
    tower: int
    """Parameters of the vision tower; 0 without one."""
    largest_layer: int
    """Parameters of the largest layer that FSDP2 gathers by itself."""
    outside_layers: int
    """Parameters that it gathers once for the whole pass: embeddings, output layer, what lies between the layers."""
    layers: int
    hidden: int
    intermediate: int
    vocabulary: int
    key_value: int
    """Numbers that the cache holds for a token and layer: keys and values of all their heads."""
    tower_layers: int = 0
    tower_hidden: int = 0
    tower_intermediate: int = 0
    patches_per_token: int = 4
    """The tower merges so many patches into one token."""
    tied: bool = False
    """Input and output embeddings are one tensor."""
    tensors: tuple[int, ...] = ()
    """Numbers in each parameter outside the tower."""
    tower_tensors: tuple[int, ...] = ()
    """The same in it."""


def local_config(path: str) -> Any | None:
    """The model's configuration where it lies on this disk, the hub's cache included; else None.

    Raises:
        ValueError: a config.json that transformers does not understand.
    """
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(str(Path(path).expanduser()), local_files_only=True)
    except OSError:
        return None


def model_size(config: Any) -> ModelSize:
    """Builds the model on torch's meta device, which has shapes and no memory, and counts."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    vision = getattr(config, "vision_config", None)
    with torch.device("meta"):
        model = (AutoModelForImageTextToText if vision is not None else AutoModelForCausalLM).from_config(config)
    names = set(model._no_split_modules or ())
    layers = [_count(part) for part in model.modules() if type(part).__name__ in names]
    total = _count(model)
    tower = next((part for name, part in model.named_modules() if name.rpartition(".")[2] == "visual"), None)
    tower_tensors = tuple(parameter.numel() for parameter in tower.parameters()) if tower is not None else ()
    in_tower = {id(parameter) for parameter in tower.parameters()} if tower is not None else set()
    text = config.get_text_config()
    head_width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return ModelSize(
        parameters=total,
        tower=sum(tower_tensors),
        largest_layer=max(layers, default=total),
        outside_layers=total - sum(layers),
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        intermediate=text.intermediate_size,
        vocabulary=text.vocab_size,
        key_value=2 * text.num_key_value_heads * head_width,
        tower_layers=vision.depth if vision is not None else 0,
        tower_hidden=vision.hidden_size if vision is not None else 0,
        tower_intermediate=vision.intermediate_size if vision is not None else 0,
        patches_per_token=vision.spatial_merge_size**2 if vision is not None else 0,
        tied=bool(config.tie_word_embeddings),
        tensors=tuple(parameter.numel() for parameter in model.parameters() if id(parameter) not in in_tower),
        tower_tensors=tower_tensors,
    )


def _count(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
