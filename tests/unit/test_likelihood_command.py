"""`likelihood RUN --reference MODEL --data FILE`: the miniature model scores answers about two clips."""

import json
import math
import sys
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

from data_prep import miniature, seed_bench_r1
from recipes.quickstart.stages import CHECKPOINT
from verl_care.data.dataset import CareDataset
from verl_care.evaluation import __main__ as evaluation
from verl_care.evaluation.generate import settings
from verl_care.evaluation.generate.questions import Question
from verl_care.evaluation.rows import append_rows, read_measures, slug
from verl_care.positions import rope_index

NAME = f"likelihood-{slug(str(CHECKPOINT))}"
FRAMES = {"data.video.max_frames": 4, "data.image.max_pixels": 28 * 28}
RESPONSES = (
    "<think> seen mix. so bake </think>\n<answer>A</answer>",
    "<think> so heat </think>\n<answer>cut, bake</answer> <|im_end|> and more",
    "<think> so heat </think>\n<answer></answer>",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    home = tmp_path_factory.mktemp("likelihood")
    miniature.write_world(home / "world", seed=0, rows=1, level_rows=2)
    seed_bench_r1.convert(home / "world", home / "data", style="plain")
    return home / "data" / "validation_L1.parquet"


@pytest.fixture
def run(tmp_path, data):
    """Two clips; three answers to the first, one of them empty, and one to the second, which failed at first."""
    folder = tmp_path / "run"
    folder.mkdir()
    first, second = map(Question.of, pq.read_table(data).to_pylist())
    settings.write(folder, {settings.PROMPTS: "plain", **FRAMES}, "m")
    rows = [first.answered(sample, text, "stop", 9, "k") for sample, text in enumerate(RESPONSES)]
    rows += [second.failed(0, "generation: x", "k"), second.answered(1, RESPONSES[0], "stop", 9, "k")]
    append_rows(folder, rows)
    return folder


def command(monkeypatch, run, *files, batch=8, options=()):
    line = ["evaluation", "likelihood", run, "--reference", CHECKPOINT, "--data", *files, "--batch", batch]
    monkeypatch.setattr(sys, "argv", [*map(str, line), "--device", "cpu", *options])
    return evaluation.main()


def found(run):
    return {(key.id, key.sample): (measured.value, measured.why) for key, measured in read_measures(run)[NAME].items()}


def by_hand(source: dict[str, Any], response: str, answer: str) -> float:
    """One row alone, all its logits, and a softmax at each token of `answer` (`>A` is one token)."""
    processor: Any = AutoProcessor.from_pretrained(CHECKPOINT)
    model: Any = Qwen2_5_VLForConditionalGeneration.from_pretrained(CHECKPOINT, dtype=torch.float32).eval()
    text = source["prompt"][0]["content"].removeprefix("<video><image>")
    parts = [{"type": "video", **source["videos"][0]}, {"type": "image", **source["images"][0]}]
    messages = [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]
    config: Any = {"video": {"max_frames": 4}, "image": {"max_pixels": 28 * 28}}
    images, clips, _ = CareDataset._process_multi_modal_info(messages, 14, config)
    ((frames, metadata),) = clips or []
    inputs = processor(
        text=[processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) + response],
        images=images,
        videos=[frames],
        video_metadata=[metadata],
        do_sample_frames=False,
        return_tensors="pt",
        return_mm_token_type_ids=True,
    )
    assert inputs["video_grid_thw"][0, 0] == 2  # four frames
    ids, kinds = inputs["input_ids"], inputs.pop("mm_token_type_ids")
    grids = inputs["image_grid_thw"], inputs["video_grid_thw"], inputs.pop("second_per_grid_ts")
    positions, _ = rope_index(ids, kinds, *grids, None, spatial_merge_size=2, tokens_per_second=2)
    with torch.no_grad():
        logits = model(position_ids=positions, use_cache=False, **inputs).logits[0].double()
    tokens = [processor.tokenizer.decode([token]) for token in ids[0].tolist()]
    head = processor.tokenizer(response.partition(answer)[0], add_special_tokens=False)["input_ids"]
    body = processor.tokenizer(response, add_special_tokens=False)["input_ids"]
    start = len(ids[0]) - len(body) + len(head)
    stop = next(place for place in range(start, len(tokens)) if "".join(tokens[start : place + 1]) == answer) + 1
    logs = []
    for place in range(start, stop):
        row = logits[place - 1]
        logs.append(float(row[ids[0, place]]) - math.log(float(row.exp().sum())))
    return math.exp(sum(logs) / len(logs))


@pytest.mark.parametrize("batch", [1, 8])
def test_a_softmax_by_hand(run, data, monkeypatch, batch):
    assert command(monkeypatch, run, data, batch=batch) == 0
    first, second = pq.read_table(data).to_pylist()
    values, ids = found(run), [source["extra_info"]["id"] for source in (first, second)]
    assert values[ids[0], 2] == (None, "no answer")
    assert values[ids[1], 0] == (None, "no response")
    assert values[ids[0], 0][0] == pytest.approx(by_hand(first, RESPONSES[0], ">A"), abs=1e-6)
    assert values[ids[1], 1][0] == pytest.approx(by_hand(second, RESPONSES[0], ">A"), abs=1e-6)
    # what stands behind the answer, and spells a mark of the chat, does not count
    whole = RESPONSES[1].partition(" <|im_end|>")[0]
    assert values[ids[0], 1][0] == pytest.approx(by_hand(first, whole, ">cut, bake"), rel=1e-4)
    assert len({value for value, _ in values.values()}) == 4  # three likelihoods and None


def test_it_goes_on_where_a_kill_cut_it_off(run, data, monkeypatch, capsys):
    command(monkeypatch, run, data)
    path = run / "measures" / f"{NAME}.jsonl"
    whole, lines = found(run), path.read_text().splitlines()
    assert [json.loads(line)["reference"] for line in lines] == [str(CHECKPOINT)] * 5
    path.write_text("\n".join([*lines[:2], lines[2][:30]]))
    capsys.readouterr()
    assert command(monkeypatch, run, data) == 0
    assert "3 answers measured, 2 of them unknown" in capsys.readouterr().out
    assert len(path.read_text().splitlines()) == 5
    for key, (value, why) in found(run).items():
        assert (value, why) == (pytest.approx(whole[key][0], abs=1e-6), whole[key][1])


def test_a_clip_that_no_longer_decodes(run, data, monkeypatch, tmp_path):
    rows = pq.read_table(data)
    sources = rows.to_pylist()
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"no clip")
    sources[0]["videos"][0]["video"] = str(clip)
    sources[1]["videos"][0]["video"] = str(tmp_path / "gone.mp4")
    changed = tmp_path / "data.parquet"
    pq.write_table(rows.from_pylist(sources, schema=rows.schema), changed)
    assert command(monkeypatch, run, changed) == 0
    first, second = (source["extra_info"]["id"] for source in sources)
    for key, name in (((first, 0), "clip.mp4"), ((second, 1), "gone.mp4")):
        value, why = found(run)[key]
        assert value is None
        assert str(why).startswith("media: ")
        assert name in str(why)

    # The clips are there again, and the question that failed was asked again: what is known stays.
    append_rows(run, [Question.of(sources[1]).answered(0, RESPONSES[0], "stop", 9, "k")])
    assert command(monkeypatch, run, data) == 0
    assert {key for key, (value, _) in found(run).items() if value is None} == {(first, 2)}
    assert found(run)[second, 0] == (pytest.approx(found(run)[second, 1][0], abs=1e-6), None)
    lines = (run / "measures" / f"{NAME}.jsonl").read_text().splitlines()
    assert len(lines) == 5 + 4
    assert command(monkeypatch, run, data) == 0
    assert (run / "measures" / f"{NAME}.jsonl").read_text().splitlines() == lines


def test_columns_of_other_names(run, data, monkeypatch, tmp_path, capsys):
    rows, named = pq.read_table(data), tmp_path / "named.parquet"
    pq.write_table(rows.rename_columns({"videos": "clips", "images": "stills"}), named)
    assert command(monkeypatch, run, named) == 2
    told = capsys.readouterr().err
    assert "was answered, and here it has 1 <video> in prompt, and no column videos (data.video_key). Give" in told
    assert NAME not in read_measures(run)
    assert command(monkeypatch, run, named, options=("--video-key", "clips", "--image-key", "stills")) == 0
    renamed = found(run)
    (run / "measures" / f"{NAME}.jsonl").unlink()
    assert command(monkeypatch, run, data) == 0
    assert renamed == found(run)


def test_data_that_was_not_asked_about(run, data, monkeypatch, capsys, tmp_path):
    rows = pq.read_table(data)
    sources = rows.to_pylist()
    pq.write_table(rows.slice(0, 1), tmp_path / "first.parquet")
    assert command(monkeypatch, run, tmp_path / "first.parquet") == 2
    assert "1 of 2 questions are not in these files" in capsys.readouterr().err
    sources[0]["prompt"][0]["content"] += "Think first."
    sources[0]["reward_model"]["ground_truth"] = "Z"
    pq.write_table(rows.from_pylist(sources, schema=rows.schema), tmp_path / "changed.parquet")
    assert command(monkeypatch, run, tmp_path / "changed.parquet") == 2
    assert "was another one" in capsys.readouterr().err
    settings.write(run, {settings.PROMPTS: "released_evaluation"}, "m")
    assert command(monkeypatch, run, data) == 2
    assert "worded otherwise" in capsys.readouterr().err
    (run / settings.SETTINGS).unlink()
    assert command(monkeypatch, run, data) == 2
    assert "has no settings.json" in capsys.readouterr().err
    assert NAME not in read_measures(run)


def test_a_run_of_failures_loads_no_model(run, data, monkeypatch, capsys):
    failed = [Question.of(row).failed(0, "media: x", "k") for row in pq.read_table(data).to_pylist()]
    (run / "responses.jsonl").unlink()
    append_rows(run, failed)
    monkeypatch.setattr(Qwen2_5_VLForConditionalGeneration, "from_pretrained", None)
    assert command(monkeypatch, run, data) == 0
    assert "2 answers measured, 2 of them unknown" in capsys.readouterr().out
