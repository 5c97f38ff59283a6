"""verl's own FSDP engine and the packed one, in this process, on random models and batches: no Ray, no rollouts.

What benchmarks and tests compare. Import it before anything of verl: it chooses verl's CPU platform.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("VERL_PLATFORM", "cpu")

import torch
from torch import Tensor

VOCABULARY = 512
IMAGE, VIDEO, VISION_START, VISION_END = 500, 501, 502, 503
TEXT = 400  # tokens below are words
PATCH = 3 * 2 * 14 * 14


@dataclass(frozen=True)
class Prompt:
    """A prompt with its clips and images, and the lengths of the responses to it."""

    uid: str
    responses: Sequence[int]
    text: int = 4
    videos: Sequence[tuple[int, int, int]] = ()
    images: Sequence[tuple[int, int, int]] = ()
    """Grids: temporal patches, rows, columns; rows and columns are even."""
    cut_off: Sequence[int] = field(default=())
    """Of each response how many tokens at its end count for nothing (missing: none)."""


@contextmanager
def one_process_group(folder: Path) -> Iterator[None]:
    """torch.distributed with this process alone."""
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


def configuration(model: Path, *overrides: str) -> Any:
    """The quick start's configuration of actor and reference, on this model."""
    from hydra import compose, initialize_config_module
    from omegaconf import OmegaConf

    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose(
            "care_quickstart",
            overrides=[
                f"actor_rollout_ref.model.path='{model}'",
                "+actor_rollout_ref.model.load_tokenizer=false",
                "actor_rollout_ref.actor.optim.total_training_steps=100",
                *overrides,
            ],
        )
    OmegaConf.resolve(config)
    return config.actor_rollout_ref


def start_engine(config: Any, packed: bool) -> Any:
    """An engine that trains, as verl's worker builds it (engine_workers.py)."""
    import verl.workers.engine.fsdp  # noqa: F401 - registers
    from verl.utils.config import omega_conf_to_dataclass
    from verl.workers.engine.base import EngineRegistry

    from verl_care.packing.engine import MODEL_TYPE

    actor, model = omega_conf_to_dataclass(config.actor), omega_conf_to_dataclass(config.model)
    engine = EngineRegistry.new(
        model_type=MODEL_TYPE if packed else "language_model",
        backend=actor.strategy,
        model_config=model,
        engine_config=actor.engine,
        optimizer_config=actor.optim,
        checkpoint_config=actor.checkpoint,
    )
    engine.initialize()
    return engine


def loss_of(config: Any) -> Any:
    """The actor's loss in verl."""
    from verl.utils.config import omega_conf_to_dataclass
    from verl.workers.utils.losses import ppo_loss

    return partial(ppo_loss, config=omega_conf_to_dataclass(config.actor))


def batch(prompts: Sequence[Prompt], generator: torch.Generator, *, merge: int = 2, seconds: float = 1.0) -> Any:
    """Responses in random order, as TransferQueue hands them to a worker, pixels with each of them."""
    from tensordict import TensorDict
    from verl.utils import tensordict_utils as tu

    rows: list[dict[str, Any]] = []
    for prompt in prompts:
        tokens, positions, vision = _prompt(prompt, generator, merge, seconds)
        for number, length in enumerate(prompt.responses):
            cut = prompt.cut_off[number] if number < len(prompt.cut_off) else 0
            response = torch.randint(0, TEXT, (length,), generator=generator)
            mask = (torch.arange(length) < length - cut).long()
            behind = positions[:, -1:].max() + 1 + torch.arange(length).expand(3, -1)
            text_positions = torch.arange(len(tokens) + length)[None]
            rows.append(
                {
                    "uid": prompt.uid,
                    "prompts": tokens,
                    "responses": response,
                    "response_mask": mask,
                    "loss_mask": mask,
                    "input_ids": torch.cat([tokens, response]),
                    "position_ids": torch.cat([text_positions, torch.cat([positions, behind], dim=1)]),
                    "multi_modal_inputs": vision,
                    "old_log_probs": -torch.rand(length, generator=generator) * 12,
                    "ref_log_prob": -torch.rand(length, generator=generator) * 12,
                    "advantages": torch.randn(1, generator=generator).expand(length).clone(),
                }
            )
    order = torch.randperm(len(rows), generator=generator).tolist()
    data = TensorDict({}, batch_size=len(rows))
    for name in rows[0]:
        values = [rows[row][name] for row in order]
        if isinstance(values[0], Tensor):
            data[name] = tu.nested_tensor_from_tensor_list(values)
        else:
            tu.assign_non_tensor_stack(data, name, values)
    return data


def _prompt(
    prompt: Prompt, generator: torch.Generator, merge: int, seconds: float
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Its tokens, their M-RoPE positions (3, L), and what the processor would have made of its media."""
    from verl_care.positions import rope_index

    parts, kinds = [torch.randint(0, TEXT, (prompt.text,), generator=generator)], [0] * prompt.text
    for token, kind, grids in ((VIDEO, 2, prompt.videos), (IMAGE, 1, prompt.images)):
        for t, h, w in grids:
            count = t * (h // merge) * (w // merge)
            parts.append(torch.tensor([VISION_START, *[token] * count, VISION_END]))
            kinds += [0, *[kind] * count, 0]
    parts.append(torch.randint(0, TEXT, (2,), generator=generator))
    kinds += [0, 0]
    tokens = torch.cat(parts)
    vision = {}
    for name, grids in (("_videos", prompt.videos), ("", prompt.images)):
        if grids:
            patches = sum(t * h * w for t, h, w in grids)
            vision[f"pixel_values{name}"] = torch.randn(patches, PATCH, generator=generator)
            vision["video_grid_thw" if name else "image_grid_thw"] = torch.tensor(grids)
    positions, _ = rope_index(
        tokens[None], torch.tensor(kinds)[None], vision.get("image_grid_thw"), vision.get("video_grid_thw"),
        torch.full((len(prompt.videos),), seconds), None, spatial_merge_size=merge, tokens_per_second=2,
    )  # fmt: skip
    return tokens, positions[:, 0], vision


def marked(data: Any, **settings: Any) -> Any:
    """A copy of the batch (its tensors shared) with what verl's worker tells an engine about it."""
    from verl.utils import tensordict_utils as tu

    data = data.copy()
    usual = {
        "use_remove_padding": False, "use_dynamic_bsz": True, "max_token_len_per_gpu": 1 << 20, "temperature": 1.0,
        "calculate_entropy": False, "compute_loss": True, "global_batch_size": len(data), "use_fused_kernels": False,
    }  # fmt: skip
    for name, value in (usual | settings).items():
        if isinstance(value, Tensor):
            data[name] = value
        else:
            tu.assign_non_tensor(data, **{name: value})
    return data


def response_values(outputs: Any, data: Any, name: str) -> Tensor:
    """Of one of an engine's outputs the values of the response tokens, row after row."""
    from verl.workers.utils.padding import response_from_nested

    return response_from_nested(outputs["model_output"][name], data["response_mask"]).values()


def gradients(engine: Any) -> Tensor:
    """All gradients of the engine's model as one vector."""
    grads = [p.grad for p in engine.module.parameters() if p.grad is not None]
    return torch.cat([getattr(grad, "full_tensor", lambda grad=grad: grad)().flatten() for grad in grads])
