"""M-RoPE positions by hand, and against vLLM's, which the model was trained with."""

from __future__ import annotations

import types

import numpy as np
import pytest
import torch

from verl_care.positions import IMAGE, TEXT, VIDEO, rope_index, vision_positions

KINDS = {"text": TEXT, "image": IMAGE, "video": VIDEO}


def positions(prompt, images=(), clips=(), seconds=None, tokens_per_second=2.0):
    """`prompt`: (kind, tokens) in reading order; grids in patches, 2 x 2 of them a token."""
    types_L = torch.cat([torch.full((length,), KINDS[kind]) for kind, length in prompt])
    return rope_index(
        torch.zeros_like(types_L)[None],
        types_L[None],
        torch.tensor(images) if images else None,
        torch.tensor(clips) if clips else None,
        torch.tensor(seconds) if seconds else None,
        None,
        spatial_merge_size=2,
        tokens_per_second=tokens_per_second,
    )


def test_text_counts():
    found, delta = positions([("text", 3)])
    assert found[:, 0].tolist() == [[0, 1, 2]] * 3
    assert delta.tolist() == [[0]]


def test_text_follows_the_largest_position_of_a_clip():
    # 2 text; a clip of 3 temporal patches of 4 x 4 patches = 2 x 2 tokens, 1 s apart, 2 positions a second:
    # temporal 2 + (0, 2, 4), rows and columns 2 + (0, 1); then 1 text at max(6, 3) + 1 = 7, not at 2 + max(2, 2) = 4
    found, delta = positions([("text", 2), ("video", 12), ("text", 1)], clips=[(3, 4, 4)], seconds=[1.0])
    assert found[0, 0].tolist() == [0, 1, *[2] * 4, *[4] * 4, *[6] * 4, 7]
    assert found[1, 0].tolist() == [0, 1, *[2, 2, 3, 3] * 3, 7]
    assert found[2, 0].tolist() == [0, 1, *[2, 3, 2, 3] * 3, 7]
    assert delta.tolist() == [[8 - 15]]  # the next position is 8, the prompt has 15 tokens


def test_text_behind_a_wide_image():
    # 1 x 2 x 4 patches = 1 x 2 tokens at (0, 0), (0, 1): the next is at 2
    found, _ = positions([("image", 2), ("text", 1)], images=[(1, 2, 4)])
    assert found[:, 0].tolist() == [[0, 0, 2], [0, 0, 2], [0, 1, 2]]


@pytest.mark.parametrize(
    ("seconds", "temporal"),
    [
        (2 / 0.3, [0, 13, 26]),  # 0.3 fps: 6.67 s a patch of two frames, 13.33 positions
        (2.0, [0, 4, 8]),  # 1 fps
        (1.0, [0, 2, 4]),  # 2 fps
        (0.5, [0, 1, 2]),  # 4 fps; transformers makes all of them 0
        (2 / 24, [0, 0, 0]),  # what vLLM takes every clip for that comes without its times
    ],
)
def test_seconds_are_a_real_number(seconds, temporal):
    assert vision_positions((3, 1, 1), 2.0 * seconds)[0].tolist() == temporal


def test_a_model_without_seconds_steps_by_one():
    found, _ = positions([("video", 3)], clips=[(3, 2, 2)], seconds=[5.0], tokens_per_second=None)
    assert found[0, 0].tolist() == [0, 1, 2]


def test_padding_has_no_position():
    types_NL = torch.tensor([[0, 0, 0], [0, 0, 0]])
    mask_NL = torch.tensor([[0, 1, 1], [1, 1, 1]])
    found, delta = rope_index(types_NL, types_NL, None, None, None, mask_NL, spatial_merge_size=2, tokens_per_second=2)
    assert found[0].tolist() == [[0, 0, 1], [0, 1, 2]]
    assert delta.tolist() == [[0], [0]]


@pytest.mark.parametrize("fps", [0.3, 1.0, 2.0, 4.0])
def test_the_same_as_vllm(fps):
    compare_with_vllm(2 / fps)


@pytest.mark.parametrize("fps", [0.3, 1.0, 2.0, 4.0])
def test_released_positions_on_both_sides(fps):
    """`data.video.temporal_positions=release`: one second a temporal patch, whatever the clip was sampled at.

    The metadata go to vLLM's processor as keywords of the request and to the training side's with the frames.
    """
    import verl  # noqa: F401 - loads the plug-in
    from verl.utils.tokenizer import build_multimodal_processor_inputs

    from recipes.quickstart.model import build_processor
    from verl_care.data.budget import VideoBudget
    from verl_care.data.media import released_times

    frames = torch.zeros(8, 3, 56, 56, dtype=torch.uint8)
    true = {"fps": fps, "frames_indices": list(range(8)), "total_num_frames": 8}
    text = ["<|vision_start|><|video_pad|><|vision_end|>"]
    for metadata, seconds in ((true, 2 / fps), (released_times(8), 1.0)):
        processor = build_processor()
        actor = build_multimodal_processor_inputs(processor, text=text, images=None, videos=[(frames, metadata)])
        rollout = processor(
            text=text, videos=[frames], video_metadata=[metadata], do_sample_frames=False, return_tensors="pt"
        )
        for inputs in (actor, rollout):
            assert [float(value) for value in inputs["second_per_grid_ts"]] == pytest.approx([seconds])
    assert VideoBudget().fps == 2.0  # as which the release takes every clip
    ours = compare_with_vllm(1.0)
    assert ours[0, 0, 5:53:12].tolist() == [5, 7, 9, 11]  # tokens_per_second * 1 s = 2 apart


def compare_with_vllm(seconds):
    qwen = pytest.importorskip("vllm.model_executor.models.qwen2_5_vl", reason="vLLM is not installed here")
    clip, image = (4, 6, 8), (1, 4, 4)  # 4 x 12 and 4 tokens
    prompt = [("text", 5), ("video", 48), ("text", 2), ("image", 4), ("text", 7)]
    ours, delta = positions(prompt, images=[image], clips=[clip], seconds=[seconds])

    def feature(modality, offset, **data):
        boxed = {name: types.SimpleNamespace(data=torch.tensor(value)) for name, value in data.items()}
        return types.SimpleNamespace(modality=modality, mm_position=types.SimpleNamespace(offset=offset), data=boxed)

    features = [
        feature("video", 5, video_grid_thw=clip, second_per_grid_ts=seconds),
        feature("image", 55, image_grid_thw=image),
    ]
    vision = types.SimpleNamespace(spatial_merge_size=2, tokens_per_second=2)
    model = qwen.Qwen2_5_VLForConditionalGeneration.__new__(qwen.Qwen2_5_VLForConditionalGeneration)
    torch.nn.Module.__init__(model)
    model.config = types.SimpleNamespace(vision_config=vision)
    theirs, their_delta = model.get_mrope_input_positions([0] * 66, features)
    np.testing.assert_array_equal(ours[:, 0].numpy(), np.asarray(theirs))
    assert int(delta) == their_delta
    return ours


def test_the_actor_gets_them():
    """verl binds the model's `get_rope_index` to the processor; `verl_care.compat` has put ours there."""
    import verl  # noqa: F401 - loads the plug-in
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLModel
    from transformers.models.qwen2_5_vl.processing_qwen2_5_vl import Qwen2_5_VLProcessor

    vision = types.SimpleNamespace(spatial_merge_size=2, tokens_per_second=2)
    processor = types.SimpleNamespace(config=types.SimpleNamespace(vision_config=vision))
    kinds = torch.tensor([[VIDEO, VIDEO, TEXT]])
    seconds = Qwen2_5_VLProcessor.get_rope_index_kwargs(processor, {"second_per_grid_ts": torch.tensor([0.5])})
    found, _ = Qwen2_5_VLModel.get_rope_index(
        processor, kinds, kinds, video_grid_thw=torch.tensor([[2, 2, 2]]), **seconds
    )
    assert found[0, 0].tolist() == [0, 1, 2]  # 0.5 s * 2 a second = 1 apart; then behind the largest
