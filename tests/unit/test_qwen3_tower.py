"""Qwen3-VL's vision tower runs once a pass, on every rank; what verl makes of it stays the same to the bit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import transformers
import verl
from verl.models.transformers import qwen3_vl

from benchmarks.models import config_of
from tests.unit.test_compat import unpatched
from verl_care import compat

GRIDS = {"image": [[1, 4, 6]], "video": [[2, 4, 4], [1, 2, 2]]}  # patches: time, height, width; two clips
KINDS = {"text": (), "image": ("image",), "video": ("video",), "image and video": ("image", "video")}


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    return transformers.AutoModelForImageTextToText.from_config(config_of("qwen3_vl", 64, 2, 2)).model.eval()


@pytest.fixture
def calls(model) -> Iterator[list[int]]:
    found: list[int] = []
    hook = model.visual.register_forward_hook(lambda *_: found.append(1))
    yield found
    hook.remove()


def inputs(model: Any, kinds: tuple[str, ...]) -> dict[str, Any]:
    """A row with an image's tokens behind a clip's and before another's."""
    generator = torch.Generator().manual_seed(1)
    vision, ids, made = model.config.vision_config, [5, 6], {}
    width = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
    for name in kinds:
        grid_thw = torch.tensor(GRIDS[name])
        patches = grid_thw.prod(-1)
        pixels = torch.randn(int(patches.sum()), width, generator=generator)
        made |= {"pixel_values" if name == "image" else "pixel_values_videos": pixels, f"{name}_grid_thw": grid_thw}
    for name, place in (("video", 0), ("image", 0), ("video", 1)):
        if name in kinds:
            t, h, w = GRIDS[name][place]
            ids += [getattr(model.config, f"{name}_token_id")] * (t * h * w // vision.spatial_merge_size**2) + [9]
    return {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids)).long(), **made}


def same(one: Any, other: Any) -> bool:
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one is other if one is None else torch.equal(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_once_and_the_same(model, calls, kind):
    given = inputs(model, KINDS[kind])
    with torch.no_grad():
        theirs = unpatched(qwen3_vl, "_get_input_embeds")(model, **given)
        before = len(calls)
        ours = qwen3_vl._get_input_embeds(model, **given)
    assert len(calls) - before == 1
    assert before == (2 if kind == "image and video" else 1), f"verl {verl.__version__}: the patch can go"
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        if kind == "image and video" and name in ("inputs_embeds", "deepstack_visual_embeds"):
            continue
        assert same(ours[name], value), name
    # one matrix product of more rows may round otherwise
    torch.testing.assert_close(ours["inputs_embeds"], theirs["inputs_embeds"], rtol=0, atol=1e-6)
    for layer, expected in zip(
        ours["deepstack_visual_embeds"] or (), theirs["deepstack_visual_embeds"] or (), strict=True
    ):
        torch.testing.assert_close(layer, expected, rtol=0, atol=1e-6)


def test_patched_twice_is_patched_once(model, calls, monkeypatch):
    # as in a process that imports the plugin anew
    monkeypatch.setattr(qwen3_vl, "_get_input_embeds", qwen3_vl._get_input_embeds)
    compat._call_the_tower_once(qwen3_vl)
    with torch.no_grad():
        qwen3_vl._get_input_embeds(model, **inputs(model, KINDS["image and video"]))
    assert len(calls) == 1


def test_gradients_come_through(model):
    model.zero_grad()
    made = qwen3_vl._get_input_embeds(model, **inputs(model, KINDS["image and video"]))
    (made["inputs_embeds"].sum() + sum(layer.sum() for layer in made["deepstack_visual_embeds"])).backward()
    assert all(parameter.grad is not None for parameter in model.visual.parameters())
    assert model.visual.patch_embed.proj.weight.grad.any()
