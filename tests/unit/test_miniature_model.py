"""The miniature model: Qwen2.5-VL's tokens and forward, and a warm start that reads the option list."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoProcessor, AutoTokenizer, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

from data_prep.miniature import write_world
from data_prep.miniature_world import ACTIONS
from data_prep.seed_bench_r1 import convert
from recipes.quickstart.consistency_rule import respond
from recipes.quickstart.examples import Example, load_examples, scored_logits
from recipes.quickstart.lessons import Teacher
from recipes.quickstart.model import build_model, build_processor
from recipes.quickstart.packing import pack
from verl_care import compat

RESPONSE = respond(("pour", "stir"), "chop", "B")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def processor() -> Qwen2_5_VLProcessor:
    return build_processor()


@pytest.fixture(scope="module")
def model(processor: Qwen2_5_VLProcessor) -> Qwen2_5_VLForConditionalGeneration:
    return build_model(processor.tokenizer, seed=0).eval()


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("world")
    write_world(out, seed=3, rows=4, level_rows=48)
    convert(out, out / "data", style="plain")
    return out / "data"


@pytest.fixture(scope="module")
def examples(converted: Path, processor: Qwen2_5_VLProcessor, model: Qwen2_5_VLForConditionalGeneration):
    return load_examples(converted / "validation_L1.parquet", processor, model)


def test_an_answer_is_cut_as_qwen_cuts_it(processor: Qwen2_5_VLProcessor) -> None:
    tokenizer = processor.tokenizer
    pieces = [tokenizer.decode([i]) for i in tokenizer("<answer>B</answer>")["input_ids"]]
    assert pieces == ["<", "answer", ">B", "</", "answer", ">"]


@pytest.mark.parametrize(
    "text", [RESPONSE, "What next? 漢字 naïve 🍜\n\t3.14", "<|im_start|>user\nA. pour\n<|im_end|>"]
)
def test_any_text_round_trips(processor: Qwen2_5_VLProcessor, text: str) -> None:
    assert processor.tokenizer.decode(processor.tokenizer(text)["input_ids"]) == text


def test_every_action_is_one_token_and_no_row_is_without_a_token(
    processor: Qwen2_5_VLProcessor, model: Qwen2_5_VLForConditionalGeneration
) -> None:
    tokenizer = processor.tokenizer
    assert all(len(tokenizer(f" {action}")["input_ids"]) == 1 for action in ACTIONS)
    assert len(tokenizer) == model.get_output_embeddings().weight.shape[0] <= 512
    assert sum(p.numel() for p in model.parameters()) < 5e6


def test_the_saved_folder_loads_through_the_auto_classes(
    tmp_path: Path, processor: Qwen2_5_VLProcessor, model: Qwen2_5_VLForConditionalGeneration
) -> None:
    processor.save_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    assert isinstance(AutoProcessor.from_pretrained(tmp_path), Qwen2_5_VLProcessor)
    tokens = processor.tokenizer(RESPONSE)["input_ids"]
    assert AutoTokenizer.from_pretrained(tmp_path)(RESPONSE)["input_ids"] == tokens


def test_packed_branches_score_as_the_models_own_forward(
    processor: Qwen2_5_VLProcessor, model: Qwen2_5_VLForConditionalGeneration, examples: list[Example]
) -> None:
    compat.apply()  # transformers' own positions are wrong behind a clip
    example = next(e for e in examples if e.seen)  # with a clip
    assert example.patches_NF is not None
    assert example.grids is not None
    assert example.positions_3L is not None
    branches = [processor.tokenizer(respond(example.seen, w, "A"))["input_ids"] for w in example.options[:2]]
    packed = pack([example.prompt], [branches], [[[1.0] * len(b) for b in branches]], [example.positions_3L])
    ids = torch.tensor([example.prompt + branches[1]])
    kinds = (ids == model.config.image_token_id).long() + 2 * (ids == model.config.video_token_id).long()
    clip = int(example.grids[0].prod())
    with torch.no_grad():
        ours = scored_logits(model, packed, [example])[len(branches[0]) :]
        whole = model(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            pixel_values_videos=example.patches_NF[:clip],
            video_grid_thw=example.grids[:1],
            pixel_values=example.patches_NF[clip:],
            image_grid_thw=example.grids[1:],
            mm_token_type_ids=kinds,
        ).logits[0, len(example.prompt) - 1 : -1]
    torch.testing.assert_close(ours, whole, atol=1e-5, rtol=1e-5)


def test_a_lesson_scores_the_letter_and_names_its_kind(processor: Qwen2_5_VLProcessor) -> None:
    teacher = Teacher(processor, seed=0)
    branch, weights = teacher.look_up(("pour", "stir", "chop", "peel"), "stir", seen=("fill",))
    assert processor.tokenizer.decode(branch) == "<think> seen fill. so stir </think>\n<answer>B"
    assert [processor.tokenizer.decode([t]) for t, w in zip(branch, weights, strict=True) if w] == [">B"]
    response, weights = teacher.response(("fill",), "stir", "B", score_seen=True)
    packed = pack([teacher.ids("A. pour\n")], [[branch, response]], [[[0.0] * (len(branch) - 1) + [0.5], weights]])
    kinds = {kind: int(mask.sum()) for kind, mask in teacher.kinds(packed).items()}
    assert kinds == {"look-up": 1, "letter": 1, "seen": 2, "conclusion": 1, "form": len(response) - 4}
