"""A response that samples, or spells, the marks of an image or a clip: which of them could break it, and what keeps
them out."""

from __future__ import annotations

import types

import pytest
import torch
from verl.experimental.agent_loop.agent_loop import AgentLoopMetrics, AgentLoopOutput, AgentLoopWorker
from verl.utils import hf_processor
from verl.workers.rollout.utils import get_vision_placeholder_token_ids
from verl.workers.rollout.vllm_rollout.utils import monkey_patch_compute_logits

from recipes.quickstart.stages import CHECKPOINT

PLACEHOLDERS = ["<|image_pad|>", "<|video_pad|>"]
OTHER_MARKS = ["<|vision_start|>", "<|vision_end|>", "<|vision_pad|>"]
METADATA = {"fps": 2.0, "frames_indices": list(range(4)), "total_num_frames": 4, "video_backend": "pyav"}


@pytest.fixture(scope="module")
def worker():
    """What verl's worker needs to make a row of a response."""
    made = object.__new__(AgentLoopWorker)
    made.processor = processor = hf_processor(str(CHECKPOINT))
    assert processor is not None
    made.tokenizer = processor.tokenizer
    return made


@pytest.fixture
def row(worker):
    """Media and positions of a response (token ids) to a prompt with a clip, or without."""

    def row(response: list[int], clip: bool = True) -> tuple[dict, torch.Tensor]:
        frames = torch.zeros(4, 3, 56, 56, dtype=torch.uint8)
        videos = {"videos": [frames], "video_metadata": [METADATA], "do_sample_frames": False} if clip else {}
        mark = "<|vision_start|><|video_pad|><|vision_end|>" if clip else ""
        prompt = worker.processor(text=[mark + "What next?"], **videos)["input_ids"][0]
        output = AgentLoopOutput(
            prompt_ids=list(prompt),
            response_ids=response,
            response_mask=[1] * len(response),
            multi_modal_data={"videos": [(frames, METADATA)]} if clip else {},
            mm_processor_kwargs={"do_sample_frames": False, "return_mm_token_type_ids": True},
            num_turns=2,
            metrics=AgentLoopMetrics(),
            extra_fields={},
        )
        ids = torch.tensor([*prompt, *response])
        media = worker._compute_multi_modal_inputs(output, ids)
        return media, worker._compute_position_ids(ids[None], torch.ones_like(ids)[None], media)

    return row


def equal(one, other) -> bool:
    (media, positions), (other_media, other_positions) = one, other
    same = all(torch.equal(media[name], other_media[name]) for name in media)
    return media.keys() == other_media.keys() and same and torch.equal(positions, other_positions)


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("mark", PLACEHOLDERS)
def test_a_sampled_placeholder_breaks_its_row(worker, row, mark, clip):
    """It is a clip or an image more than there are pixels for; so the server must not sample it."""
    with pytest.raises(StopIteration):
        row([9, worker.tokenizer.convert_tokens_to_ids(mark), 9], clip)


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("mark", OTHER_MARKS)
def test_any_other_mark_is_a_token_like_all_others(worker, row, mark, clip):
    assert equal(row([9, worker.tokenizer.convert_tokens_to_ids(mark), 9], clip), row([9, 9, 9], clip))


def test_what_breaks_a_row_is_what_verl_forbids(worker):
    expected = [worker.tokenizer.convert_tokens_to_ids(mark) for mark in PLACEHOLDERS]
    assert get_vision_placeholder_token_ids(worker.processor) == expected
    assert get_vision_placeholder_token_ids(None) == []  # a model of text alone


def test_a_forbidden_token_has_no_probability_and_the_others_keep_theirs():
    model = types.SimpleNamespace(compute_logits=lambda logits: logits)
    monkey_patch_compute_logits(model, 5, [3, 4])
    logits = model.compute_logits(torch.tensor([[1.0, 2.0, 0.0, 50.0, 60.0, 70.0]]))
    # of 0..5, 3 and 4 are forbidden and 5 is behind the vocabulary
    assert logits.tolist() == [[1.0, 2.0, 0.0] + [float("-inf")] * 3]


@pytest.mark.parametrize("mark", PLACEHOLDERS)
def test_a_mark_spelled_in_letters_stays_letters(worker, row, mark):
    spelled = worker.tokenizer(mark * 3, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert worker.tokenizer.decode(spelled, skip_special_tokens=True) == mark * 3
    assert equal(row(spelled), row([9] * len(spelled)))


def test_verl_itself_loses_such_a_response(worker, row, monkeypatch):
    stock = AgentLoopWorker._compute_multi_modal_inputs.__wrapped__
    spelled = worker.tokenizer("<|video_pad|>" * 2, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    monkeypatch.setattr(AgentLoopWorker, "_compute_multi_modal_inputs", stock)
    try:
        row(spelled)
    except IndexError:
        return
    pytest.fail("verl reads a response's letters as letters: compat._read_no_marks_in_a_response can go")
