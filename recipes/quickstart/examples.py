"""Converted rows as the model sees them: token ids, M-RoPE positions and pixels, made by the real processor.

Shapes: R rows, L tokens a row, N image patches, F features of a patch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

from data_prep.miniature_world import FPS, LETTERS
from recipes.quickstart.packing import Packed
from verl_care.positions import rope_index


@dataclass
class Example:
    prompt: list[int]
    options: tuple[str, ...]
    answer: int  # of the options
    seen: tuple[str, ...]
    steps: tuple[str, ...]  # the recipe
    id: str
    positions_3L: Tensor | None = None  # None: text alone
    patches_NF: Tensor | None = None
    grids: Tensor | None = None


def read_clip(path: str) -> np.ndarray:
    with av.open(path) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def chat_text(processor: Qwen2_5_VLProcessor, text: str, media: Sequence[str] = ()) -> str:
    content = [*({"type": kind} for kind in media), {"type": "text", "text": text}]
    chat = [{"role": "user", "content": content}]
    return processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)


def load_chunk(
    rows: Sequence[dict[str, Any]], processor: Qwen2_5_VLProcessor, model: Qwen2_5_VLForConditionalGeneration
) -> list[Example]:
    clips = [read_clip(v["video"]) for row in rows for v in row["videos"]]
    images = [Image.open(i["image"]) for row in rows for i in row["images"]]
    prompts = []
    for row in rows:
        text = row["prompt"][0]["content"].replace("<video>", "").replace("<image>", "")
        prompts.append(chat_text(processor, text, ["video"] * len(row["videos"]) + ["image"] * len(row["images"])))
    process: Any = processor  # its keyword arguments are not in its signature
    inputs = process(
        text=prompts,
        images=images or None,
        videos=clips or None,
        video_metadata=[{"fps": FPS, "total_num_frames": len(c), "frames_indices": list(range(len(c)))} for c in clips],
        do_sample_frames=False,
        padding=True,
        padding_side="right",
        return_tensors="pt",
        return_mm_token_type_ids=True,
    )
    vision: Any = model.config.vision_config
    positions, _ = rope_index(
        inputs["input_ids"],
        inputs["mm_token_type_ids"],
        inputs.get("image_grid_thw"),
        inputs.get("video_grid_thw"),
        inputs.get("second_per_grid_ts"),
        inputs["attention_mask"],
        spatial_merge_size=vision.spatial_merge_size,
        tokens_per_second=vision.tokens_per_second,
    )
    media = {}  # per kind, in the order of the rows: (grid, patches) of every clip or image
    for kind, grid_name, pixel_name in (
        ("videos", "video_grid_thw", "pixel_values_videos"),
        ("images", "image_grid_thw", "pixel_values"),
    ):
        grids = inputs.get(grid_name, torch.zeros(0, 3, dtype=torch.long))
        sizes = grids.prod(-1).tolist()
        media[kind] = iter(zip(grids, inputs[pixel_name].split(sizes) if sizes else (), strict=True))
    examples = []
    for r, row in enumerate(rows):
        own = [next(media[kind]) for kind in ("videos", "images") for _ in row[kind]]  # the order of the prompt's marks
        length, info = int(inputs["attention_mask"][r].sum()), row["extra_info"]
        examples.append(
            Example(
                prompt=inputs["input_ids"][r, :length].tolist(),
                options=tuple(info["options"]),
                answer=LETTERS.index(row["reward_model"]["ground_truth"]),
                seen=tuple(info["progress"]),
                steps=tuple(info["task_goal"].split(": ")[1].split(", ")),
                id=info["id"],
                positions_3L=positions[:, r, :length],
                patches_NF=torch.cat([patches for _, patches in own]),
                grids=torch.stack([grid for grid, _ in own]),
            )
        )
    return examples


def load_examples(
    path: Path,
    processor: Qwen2_5_VLProcessor,
    model: Qwen2_5_VLForConditionalGeneration,
    limit: int | None = None,
    chunk: int = 64,
) -> list[Example]:
    rows = pq.read_table(path).to_pylist()[:limit]
    chunks = (load_chunk(rows[i : i + chunk], processor, model) for i in range(0, len(rows), chunk))
    return [example for part in chunks for example in part]


def embed(model: Qwen2_5_VLForConditionalGeneration, packed: Packed, examples: Sequence[Example]) -> Tensor:
    """(R, L, hidden): token embeddings with the vision tower's output in the media's places, as the model's forward."""
    embedded = model.model.language_model.embed_tokens(packed.tokens_RL)
    patches = [e.patches_NF for e in examples if e.patches_NF is not None]
    if not patches:
        return embedded
    grids = torch.cat([e.grids for e in examples if e.grids is not None])
    visual = model.model.visual(torch.cat(patches), grid_thw=grids).pooler_output
    pads = torch.tensor([model.config.image_token_id, model.config.video_token_id])
    return embedded.masked_scatter(torch.isin(packed.tokens_RL, pads)[..., None], visual)


def scored_logits(model: Qwen2_5_VLForConditionalGeneration, packed: Packed, examples: Sequence[Example]) -> Tensor:
    """(T, vocabulary): the logits that predict the packed targets."""
    hidden = model.model.language_model(
        inputs_embeds=embed(model, packed, examples),
        position_ids=packed.positions_3RL,
        attention_mask={"full_attention": packed.visible_R1LL},
        use_cache=False,
    ).last_hidden_state
    return model.lm_head(hidden[packed.row_T, packed.source_T])
