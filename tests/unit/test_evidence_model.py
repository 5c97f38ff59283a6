"""What is asked of a model of the evidence outside of verl: greedy answers, and whether its warm start has a hole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

from data_prep.miniature import write_world
from data_prep.miniature_world import LETTERS, LEVELS
from data_prep.seed_bench_r1 import convert
from recipes.evidence import greedy, simulator, warm_start
from recipes.evidence.dumps import lengths_by, read_validation
from recipes.evidence.results import GREEDY, PROBE
from recipes.evidence.temptation import tempt, validation_lamps
from recipes.quickstart.examples import load_examples, scored_logits
from recipes.quickstart.lessons import Noise
from recipes.quickstart.packing import pack
from recipes.quickstart.probe import CONCLUSIONS
from recipes.quickstart.stages import CHECKPOINT

ROWS = 6


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_world(folder, seed=2, rows=2, level_rows=ROWS)
    convert(folder, folder / "data", style="plain")
    tempt(folder / "data", reliability=0.5, seed=0)
    return folder / "data"


@pytest.fixture(scope="module")
def shipped():
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(CHECKPOINT).float()
    return model, AutoProcessor.from_pretrained(CHECKPOINT)


def test_every_token_of_a_greedy_answer_is_the_likeliest(data: Path, shipped):
    model, processor = shipped
    examples = load_examples(data / "validation_L2.parquet", processor, model)
    responses = simulator.answers(model, processor.tokenizer, examples, greedy=True)
    scored = [[[1.0] * len(response)] for response in responses]
    positions = [example.positions_3L for example in examples]
    packed = pack([example.prompt for example in examples], [[r] for r in responses], scored, positions)
    with torch.no_grad():  # in one pass, and not token by token
        assert torch.equal(scored_logits(model, packed, examples).argmax(-1), packed.target_T)
    assert responses != simulator.answers(model, processor.tokenizer, examples)


def test_a_media_token_is_never_sampled(data: Path):
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(CHECKPOINT).float()
    processor = AutoProcessor.from_pretrained(CHECKPOINT)
    tokenizer, pads = processor.tokenizer, {model.config.image_token_id, model.config.video_token_id}
    (bracket,) = tokenizer("<")["input_ids"]
    with torch.no_grad():  # where it would begin with `<`, it would rather begin with one of them
        model.lm_head.weight[list(pads)] = 2 * model.lm_head.weight[bracket]
    examples = load_examples(data / "validation_L2.parquet", processor, model)
    for greedy_too in (False, True):
        responses = simulator.answers(model, tokenizer, examples, greedy=greedy_too)
        assert not pads & {token for response in responses for token in response}
        assert all(response[0] == bracket for response in responses)


def test_greedy_answers_are_a_dump_of_a_validation(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    arguments = ["greedy", "--model", CHECKPOINT, "--data", data, "--out", tmp_path]
    monkeypatch.setattr("sys.argv", list(map(str, arguments)))
    greedy.main()
    rows = [json.loads(line) for line in (tmp_path / GREEDY).read_text().splitlines()]
    assert [row["data_source"] for row in rows] == [level for level in LEVELS for _ in range(ROWS)]
    lamps = validation_lamps(data)
    found = read_validation(tmp_path / GREEDY, lengths_by(CHECKPOINT), lamps)
    for level in LEVELS:
        of_level = [row for row in rows if row["data_source"] == level]
        letters = [row["output"].partition("<answer>")[2][:1] for row in of_level]
        right = sum(letter == row["gts"] for letter, row in zip(letters, of_level, strict=True))
        followed = sum(letter == lamps[level][row["id"]] for letter, row in zip(letters, of_level, strict=True))
        assert (found[level]["accuracy"], found[level]["lamp"]) == pytest.approx((right / ROWS, followed / ROWS))
        assert 8 < found[level]["length"] < 32
    assert list(json.loads((tmp_path / PROBE).read_text())) == list(CONCLUSIONS)


def test_a_letter_is_the_conclusions_or_the_lamps(data: Path, shipped):
    model, processor = shipped
    examples = load_examples(data / "training_6k.parquet", processor, model)
    lamps = {example.id: LETTERS[(example.answer + 1) % 4] for example in examples}
    teacher = warm_start.TemptedTeacher(processor, 0, lamps)
    for example in examples:
        concluded = example.options[(example.answer + 2) % 4]
        own = LETTERS[(example.answer + 2) % 4]
        assert teacher.letter(example, concluded, Noise(letter_follows=1.0)) == own
        assert teacher.letter(example, concluded, Noise(letter_follows=0.0)) == lamps[example.id]


@pytest.mark.parametrize(("behind_nothing", "kept"), [(0.25, True), (0.6, False)])
def test_a_warm_start_with_a_hole_is_not_kept(data: Path, tmp_path: Path, monkeypatch, behind_nothing, kept):
    found = dict(zip(CONCLUSIONS, (0.8, 0.6, 0.25, behind_nothing, 0.3), strict=True))
    monkeypatch.setattr(warm_start, "train", lambda model, teacher, examples, stages: None)
    monkeypatch.setattr(warm_start, "letter_likelihoods", lambda model, processor, examples: found)
    out = tmp_path / "model"
    monkeypatch.setattr("sys.argv", ["warm_start", "--data", str(data), "--out", str(out), "--seed", "7"])
    if kept:
        warm_start.main()
    else:
        with pytest.raises(SystemExit, match=r"nothing 0\.600"):
            warm_start.main()
    assert out.exists() == kept
