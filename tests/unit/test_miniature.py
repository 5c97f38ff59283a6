"""The toy world is SEED-Bench-R1's layout, the same bytes for a seed, and has a rule for consistency."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import av
import numpy as np
import pytest

from data_prep.miniature import SPLITS, write_world
from data_prep.miniature_world import ACTIONS, FPS, FRAMES, SIDE, draw_frames, draw_situation, goals
from data_prep.seed_bench_r1 import convert
from recipes.quickstart.consistency_rule import parse, respond, supports
from tests.unit.converted import rows_of

OPTIONS = ("pour", "stir", "chop", "peel")


def content(root: Path) -> dict[str, str]:
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("world")
    write_world(out, seed=0, rows=60, level_rows=20)
    return out


def annotations(world: Path, split: str) -> list[dict]:
    return [json.loads(line) for line in (world / "annotations" / f"{split}.jsonl").read_text().splitlines()]


def test_the_same_seed_gives_the_same_bytes(world: Path, tmp_path: Path) -> None:
    write_world(tmp_path / "again", seed=0, rows=60, level_rows=20)
    assert content(tmp_path / "again") == content(world)
    write_world(tmp_path / "other", seed=1, rows=60, level_rows=20)
    assert content(tmp_path / "other").items().isdisjoint(content(world).items())


def test_every_row_is_accepted_by_the_converter_of_the_real_data(world: Path, tmp_path: Path) -> None:
    conversion = convert(world, tmp_path, style="plain")
    assert {name: tally.rows for name, tally in conversion.tallies.items()} == {
        f"{name}.jsonl": 60 if name == "training_6k" else 20 for name in SPLITS
    }
    assert (tmp_path / "rejected.jsonl").read_text() == ""
    train = rows_of(tmp_path, "training_6k")
    assert {len(row["videos"]) for row in train} == {0, 1}  # some rows have no progress and so no video
    assert {row["reward_model"]["ground_truth"] for row in train} == set("ABCD")


def test_a_clip_is_h264_and_sampling_at_2_fps_takes_every_frame(world: Path) -> None:
    path = next((world / "videos" / "EpicKitchens").glob("*.mp4"))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert (stream.width, stream.height, stream.average_rate, stream.frames) == (SIDE, SIDE, FPS, FRAMES)
        assert float(stream.duration * stream.time_base) == FRAMES / FPS


def test_the_patterns_survive_the_codec(world: Path) -> None:
    rng = np.random.default_rng([0, 0])  # the training split's own generator: its first situation
    situation = draw_situation(goals()[0], rng)
    row = annotations(world, "training_6k")[0]
    assert row["answer"] == situation.answer
    drawn, _ = draw_frames(situation, unseen_look=False)
    with av.open(str(world / "videos" / row["video_source"] / row["video_basename"])) as container:
        decoded = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
    luma = np.array([0.299, 0.587, 0.114])
    assert np.abs(decoded @ luma - drawn @ luma).mean() < 4


def test_the_question_names_the_recipe_and_the_answer_is_the_step_after_the_last_one_shown(world: Path) -> None:
    for split in SPLITS:
        for row in annotations(world, split):
            steps = row["task_goal"].split(": ")[1].split(", ")
            shown = [step["narration_text"] for step in row["task_progress_metadata"]]
            assert row["answer"] == steps[steps.index(shown[-1]) + 1 if shown else 0]
            assert ", ".join(steps) in row["question"]


def test_unseen_goals_are_in_l3_alone(world: Path) -> None:
    goal = {split: {row["task_goal"] for row in annotations(world, split)} for split in SPLITS}
    assert not goal["validation_L3"] & goal["training_6k"]
    training, unseen = goals()
    assert goal["validation_L2"] <= {g.text for g in training}
    assert goal["validation_L3"] <= {g.text for g in unseen}


def test_l2_looks_are_unseen() -> None:
    situation = draw_situation(goals()[0], np.random.default_rng(0))
    near, far = (draw_frames(situation, unseen)[0] for unseen in (False, True))
    half = SIDE // 2
    assert near[:, half:, half:].std(axis=(1, 2)).max() < 10  # training never uses the last quadrant,
    assert far[:, half:, half:].std(axis=(1, 2)).max() > 30  # which is where unseen looks put the pattern


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("<think> seen fill, heat. so stir </think>\n<answer>B</answer>", True),
        ("<think> seen nothing. so stir </think><answer> B </answer>", True),
        ("<think> seen fill. so stir </think>\n<answer>A</answer>", False),  # another option's letter
        ("<think> seen fill. so bake </think>\n<answer>A</answer>", False),  # a word that is no option
        ("<think> seen fill. so stir so chop </think>\n<answer>C</answer>", True),  # the last "so" counts
        ("<think> seen fill. so stir chop </think>\n<answer>B</answer>", False),
        ("<think> seen fill. so stir </think>\n<answer>E</answer>", False),
        ("<think> seen fill. </think>\n<answer>B</answer>", None),  # no conclusion
        ("<think> so stir </think>", None),
        ("<think> so stir </think>\n<answer>B</answer> indeed", True),  # the first closed answer is what is rewarded
        ("<think> so stir </think>\n<answer>B</answer>D</answer>", True),
        ("<think> so stir </think>\nindeed <answer>B</answer>", None),
        ("", None),
    ],
)
def test_the_rule(response: str, expected: bool | None) -> None:
    assert supports(response, OPTIONS) is expected


@pytest.mark.parametrize("seen", [(), ACTIONS[:1], ACTIONS[:3]])
def test_the_rule_reads_what_the_grammar_writes(seen: tuple[str, ...]) -> None:
    assert parse(respond(seen, "chop", "C")) == ("chop", "C")
