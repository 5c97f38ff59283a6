"""Small random models of the architectures that can be packed, written as folders that verl loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from benchmarks.engines import IMAGE, VIDEO, VISION_END, VISION_START, VOCABULARY

TOKENS = {
    "image_token_id": IMAGE, "video_token_id": VIDEO, "vision_start_token_id": VISION_START,
    "vision_end_token_id": VISION_END,
}  # fmt: skip


def config_of(kind: str, width: int, layers: int, vision_layers: int) -> Any:
    """A configuration of transformers; `kind` is its `model_type`."""
    import transformers

    hf: Any = transformers  # its configurations type each keyword
    heads = max(2, width // 64)
    size = width // heads
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": 1e4}
    text: dict[str, Any] = {
        "vocab_size": VOCABULARY, "hidden_size": width, "intermediate_size": width * 3, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": heads // 2, "max_position_embeddings": 16384,
        "rope_parameters": rope, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1,
    }  # fmt: skip
    if kind == "qwen2":
        return hf.Qwen2Config(**text)
    if kind == "qwen3":
        return hf.Qwen3Config(**text, head_dim=size)
    sections = [size // 2 - 2 * (size // 6), size // 6, size // 6]
    vision: dict[str, Any] = {"depth": vision_layers, "num_heads": 4, "patch_size": 14, "temporal_patch_size": 2}
    vision["spatial_merge_size"] = 2
    if kind == "qwen2_vl":
        text["rope_parameters"] = rope | {"mrope_section": sections}
        vision |= {"embed_dim": width // 2, "hidden_size": width, "mlp_ratio": 2}
        return hf.Qwen2VLConfig(text_config=text, vision_config=vision, **TOKENS)
    if kind == "qwen2_5_vl":
        text["rope_parameters"] = rope | {"mrope_section": sections}
        vision |= {
            "hidden_size": width // 2, "intermediate_size": width, "out_hidden_size": width, "tokens_per_second": 2,
            "window_size": 112, "fullatt_block_indexes": list(range(1, vision_layers, 2)),
        }  # fmt: skip
        return hf.Qwen2_5_VLConfig(text_config=text, vision_config=vision, **TOKENS)
    if kind == "qwen3_vl":
        text["rope_parameters"] = rope | {"mrope_section": sections, "mrope_interleaved": True}
        vision |= {
            "hidden_size": width // 2, "intermediate_size": width, "out_hidden_size": width,
            "num_position_embeddings": 256, "deepstack_visual_indexes": list(range(min(vision_layers, layers) - 1)),
        }  # fmt: skip
        return hf.Qwen3VLConfig(text_config=text | {"head_dim": size}, vision_config=vision, **TOKENS)
    raise ValueError(f"no model of kind {kind!r}")


def write_model(
    folder: Path, kind: str, *, width: int = 64, layers: int = 2, vision_layers: int = 2, seed: int = 0
) -> Path:
    """A random model, saved; the folder."""
    import transformers as hf

    torch.manual_seed(seed)
    config = config_of(kind, width, layers, vision_layers)
    auto = hf.AutoModelForCausalLM if kind in ("qwen2", "qwen3") else hf.AutoModelForImageTextToText
    model = auto.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():  # biases and norms that start at 0 or 1 would hide mistakes
            parameter.add_(torch.randn_like(parameter) * 0.02)
    model.save_pretrained(folder)
    return folder
