"""lmms-eval itself on the miniature benchmark: its prompts, responses and scores are ours, question by question."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from data_prep import miniature, seed_bench_r1
from recipes.quickstart.stages import CHECKPOINT
from verl_care.data.dataset import CareDataset
from verl_care.positions import rope_index
from verl_care.rewards.grading import extract_answer, grade, has_format

REPOSITORY = Path(__file__).parents[2]
LEVELS = ("L1", "L2", "L3")
LEVEL_ROWS = 12
NEW_TOKENS = 32
DAMAGED = 3  # the row of L2 whose clip does not decode, in the world of our model
PATCH = 14

pytest.importorskip("lmms_eval", reason="lmms-eval is in the extra `dev`")
pytest.importorskip("decord", reason="lmms-eval's Qwen2.5-VL imports decord, which has wheels for x86 only")


@dataclass(frozen=True)
class Ours:
    """What verl_care makes of one question."""

    prompt: str
    ground_truth: str
    domain: str | None
    response: str


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The benchmark, and a copy of it with a clip that does not decode."""
    home = tmp_path_factory.mktemp("lmms eval")
    miniature.write_world(home / "world", seed=0, rows=1, level_rows=LEVEL_ROWS)
    shutil.copytree(home / "world", home / "damaged")
    clip = home / "damaged" / "videos" / miniature.FAR / f"validation_L2_{DAMAGED:05d}.mp4"
    clip.write_bytes(clip.read_bytes()[:500])
    return home / "world", home / "damaged"


@pytest.fixture(scope="module")
def ours(worlds: tuple[Path, Path]) -> dict[str, list[Ours]]:
    """Each level's questions as our converter, our dataset and our positions have them, answered greedily."""
    from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

    processor = AutoProcessor.from_pretrained(CHECKPOINT)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(CHECKPOINT, dtype=torch.bfloat16).eval()
    seed_bench_r1.convert(worlds[0], worlds[0].parent / "data", style="plain")
    found: dict[str, list[Ours]] = {}
    for level in LEVELS:
        rows = pq.read_table(worlds[0].parent / "data" / f"validation_{level}.parquet").to_pylist()
        found[level] = [
            Ours(
                row["prompt"][0]["content"].replace("<video>", "").replace("<image>", ""),
                row["reward_model"]["ground_truth"],
                row["extra_info"]["domain"],
                greedy(model, processor, row),
            )
            for row in rows
        ]
    return found


@torch.inference_mode()
def greedy(model: Any, processor: Any, row: dict[str, Any]) -> str:
    """The response of one row, a full forward pass per token: neither `generate` nor a cache of keys decides."""
    media = [{"type": "video", **clip} for clip in row["videos"]] + [{"type": "image", **one} for one in row["images"]]
    text = row["prompt"][0]["content"].replace("<video>", "").replace("<image>", "")
    messages = [{"role": "user", "content": [*media, {"type": "text", "text": text}]}]
    images, clips, _ = CareDataset._process_multi_modal_info(messages, PATCH, {})  # type: ignore[arg-type]
    inputs = processor(
        text=[processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)],
        images=images,
        videos=[frames for frames, _ in clips or []] or None,
        video_metadata=[metadata for _, metadata in clips or []] or None,
        do_sample_frames=False,
        return_tensors="pt",
        return_mm_token_type_ids=True,
    )
    vision = model.config.vision_config
    prompt, kinds = inputs.pop("input_ids"), inputs.pop("mm_token_type_ids")
    inputs.pop("attention_mask")
    positions, _ = rope_index(
        prompt,
        kinds,
        inputs.get("image_grid_thw"),
        inputs.get("video_grid_thw"),
        inputs.get("second_per_grid_ts"),
        None,
        spatial_merge_size=vision.spatial_merge_size,
        tokens_per_second=vision.tokens_per_second,
    )
    tokens = prompt
    for _ in range(NEW_TOKENS):
        logits = model(input_ids=tokens, position_ids=positions, use_cache=False, **inputs).logits
        tokens = torch.cat([tokens, logits[:, -1].argmax(-1, keepdim=True)], dim=1)
        if int(tokens[0, -1]) == processor.tokenizer.eos_token_id:
            break
        positions = torch.cat([positions, positions.max() + torch.ones(3, 1, 1, dtype=positions.dtype)], dim=2)
    return processor.tokenizer.decode(tokens[0, prompt.shape[1] :], skip_special_tokens=True)


def lmms_eval(program: str, world: Path, out: Path, model: str, model_args: str) -> dict[str, Any]:
    """Run it as a user does; returns its results and, under "samples", each level's questions in order."""
    command = [
        *(sys.executable, "-m", program, "--model", model, "--device", "cpu", "--batch_size", "1"),
        *("--model_args", f"pretrained={CHECKPOINT},device_map=cpu,{model_args}".rstrip(",")),
        *("--tasks", "seed_bench_r1", "--gen_kwargs", f"temperature=0,max_new_tokens={NEW_TOKENS}"),
        *("--log_samples", "--output_path", str(out)),
    ]
    if program == "lmms_eval":
        command += ["--include_path", str(REPOSITORY / "recipes" / "lmms_eval")]
    environment = {
        **os.environ,
        "SEED_BENCH_R1_ROOT": str(world),
        "SEED_BENCH_R1_PROMPT": "plain",
        "HF_HOME": str(out / "cache"),
        "HF_HUB_OFFLINE": "1",
        "FORCE_QWENVL_VIDEO_READER": "decord",
    }
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=500)
    results = list(out.rglob("*_results.json"))
    assert len(results) == 1, done.stdout[-2000:] + done.stderr[-4000:]
    found = json.loads(results[0].read_text())
    found["samples"] = {}
    for level in LEVELS:
        (path,) = out.rglob(f"*_samples_seed_bench_r1_{level.lower()}.jsonl")
        samples = [json.loads(line) for line in path.read_text().splitlines()]
        found["samples"][level] = sorted(samples, key=lambda sample: sample["doc_id"])
    return found


def check_scores(found: dict[str, Any], ours: dict[str, list[Ours]]) -> None:
    """Prompts and truths are ours, every response has the score that ours would have, and the means are of these."""
    for level, questions in ours.items():
        samples = found["samples"][level]
        assert [sample["input"] for sample in samples] == [question.prompt for question in questions]
        assert [sample["target"] for sample in samples] == [question.ground_truth for question in questions]
        accuracies = []
        for sample, question in zip(samples, questions, strict=True):
            response = sample["filtered_resps"]
            assert sample["accuracy"] == grade("multiple choice", response, question.ground_truth)
            assert sample["format"] == has_format(response)
            assert sample["no_answer"] == (not extract_answer(response))
            assert sample["no_response"] == (response == "")
            accuracies.append(sample["accuracy"])
        results = found["results"][f"seed_bench_r1_{level.lower()}"]
        assert results["accuracy,none"] == pytest.approx(sum(accuracies) / LEVEL_ROWS)
        if level == "L3":
            for domain in {question.domain for question in questions}:
                name = str(domain).split()[0]
                own = [a for a, question in zip(accuracies, questions, strict=True) if question.domain == domain]
                assert results[f"accuracy_{name},none"] == pytest.approx(sum(own) / len(own))


def responses(samples: list[dict[str, Any]]) -> list[str]:
    return [sample["filtered_resps"] for sample in samples]


@pytest.mark.e2e
@pytest.mark.timeout(600)
def test_lmms_eval_with_its_own_model(worlds, ours, tmp_path):
    """Its own sampling of frames, and transformers' positions: other responses, yet scored as ours would be."""
    model_args = "max_num_frames=16,min_pixels=784,max_pixels=100352"
    found = lmms_eval("lmms_eval", worlds[0], tmp_path, "qwen2_5_vl", model_args)
    check_scores(found, ours)
    differing = sum(
        theirs != question.response
        for level in LEVELS
        for theirs, question in zip(responses(found["samples"][level]), ours[level], strict=True)
    )
    assert differing > 0  # recipes/lmms_eval/README.md: 29 of 36


@pytest.mark.e2e
@pytest.mark.timeout(600)
def test_its_own_model_with_our_positions_answers_as_ours(worlds, ours, tmp_path):
    model_args = "max_num_frames=16,min_pixels=784,max_pixels=100352"
    found = lmms_eval("recipes.lmms_eval", worlds[0], tmp_path, "qwen2_5_vl", model_args)
    check_scores(found, ours)
    for level in LEVELS:
        assert responses(found["samples"][level]) == [question.response for question in ours[level]]


@pytest.mark.e2e
@pytest.mark.timeout(600)
def test_our_model_answers_as_ours_and_counts_a_clip_that_does_not_decode(worlds, ours, tmp_path):
    found = lmms_eval("recipes.lmms_eval", worlds[1], tmp_path, "qwen2_5_vl_care", "")
    check_scores(found, ours)
    expected = {level: [question.response for question in ours[level]] for level in LEVELS}
    expected["L2"][DAMAGED] = ""
    assert {level: responses(found["samples"][level]) for level in LEVELS} == expected
    assert found["results"]["seed_bench_r1_l2"]["no_response,none"] == pytest.approx(1 / LEVEL_ROWS)
    assert found["n-samples"]["seed_bench_r1_l2"]["effective"] == LEVEL_ROWS
