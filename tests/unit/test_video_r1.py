"""Video-R1's files, made up in their layout: what they become, and what each kind of damage is told as."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from data_prep.common.schema import RL_SCHEMA, SFT_SCHEMA, image_entry, video_entry
from data_prep.video_r1 import convert
from recipes.quickstart.model import build_processor
from recipes.quickstart.stages import CHECKPOINT
from tests.unit.clips import NEEDS_TORCHCODEC, write_clip
from tests.unit.converted import ids_of, rejected_of, rows_of

OPTIONS = ["A. a red cup", "B. a blue cup", "C. a plate", "D. nothing"]


def row(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "problem_id": number,
        "problem": "What does the person pick up?",
        "data_type": "video",
        "problem_type": "multiple choice",
        "options": OPTIONS,
        "process": "",
        "solution": "<answer>B</answer>",
        "path": "./NeXT-QA/clip.mp4",
        "data_source": "NeXT-QA",
    } | changes


def open_row(number: int, problem_type: str, answer: str, **changes: Any) -> dict[str, Any]:
    return row(number, problem_type=problem_type, options=[], solution=f"<answer>{answer}</answer>", **changes)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    for file in ("NeXT-QA/clip.mp4", "Chart/chart.png", "Evaluation/TVQA/scene/00001.jpg", "Evaluation/clip.mp4"):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    (root / "Evaluation" / "TVQA" / "empty").mkdir()
    return root


def write(root: Path, name: str, *rows: Any) -> Path:
    path = root / name
    path.write_text(json.dumps(rows, indent=2))
    return path


def converted(root: Path, name: str = "Video-R1-260k", **settings: Any) -> list[dict[str, Any]]:
    convert(root, root.parent / "out", **settings)
    return rows_of(root.parent / "out", name)


def test_a_training_row_becomes_verls_row(root: Path) -> None:
    write(root, "Video-R1-260k.json", row(7))
    (made,) = converted(root, style="plain")
    assert pq.read_schema(root.parent / "out" / "Video-R1-260k.parquet").equals(RL_SCHEMA)
    assert made["data_source"] == "video_r1"
    text = "What does the person pick up?Options:\nA. a red cup\nB. a blue cup\nC. a plate\nD. nothing\n"
    assert made["prompt"] == [{"role": "user", "content": "<video>" + text}]
    assert made["videos"] == [video_entry(str(root / "NeXT-QA" / "clip.mp4"))]
    assert made["images"] == []
    assert made["reward_model"] == {"style": "rule", "ground_truth": "B"}
    info = made["extra_info"]
    assert (info["id"], info["problem_type"], info["source"]) == ("7", "multiple choice", "NeXT-QA")


def test_five_problem_types_images_and_the_released_hints(root: Path) -> None:
    image = {"data_type": "image", "path": "./Chart/chart.png"}
    types = {"numerical": "1,250.5", "OCR": "Exit 12", "free-form": "He leaves.", "regression": "0.37"}
    rows = [open_row(i, kind, answer, **image) for i, (kind, answer) in enumerate(types.items())]
    write(root, "Video-R1-260k.json", *rows, row(9, **image))
    made = converted(root)
    assert [m["reward_model"]["ground_truth"] for m in made] == [*types.values(), "B"]
    assert {tuple(m["images"][0].items()) for m in made} == {tuple(image_entry(str(root / "Chart/chart.png")).items())}
    assert all(m["videos"] == [] and m["prompt"][0]["content"].startswith("<image>What") for m in made)
    assert "Options:" not in made[0]["prompt"][0]["content"]
    assert made[0]["prompt"][0]["content"].endswith(
        "numerical value (e.g., 42 or 3.14) within the <answer> </answer> tags."
    )
    assert made[1]["prompt"][0]["content"].endswith("provide your text answer within the <answer> </answer> tags.")


class TestEvaluationFiles:
    def test_each_is_found_in_root_or_in_its_folder_and_reports_by_type(self, root: Path) -> None:
        clip = {"path": "./Evaluation/clip.mp4"}
        number = open_row(2, "regression", "3.5", **clip) | {"options": None}
        write(root, "eval_mmvu.json", row(1, **clip))
        write(root, "Evaluation/eval_vsibench.json", row(1, **clip), number)
        assert [r["data_source"] for r in converted(root, "eval_vsibench")] == [
            "vsibench/multiple_choice",
            "vsibench/regression",
        ]
        (mmvu,) = rows_of(root.parent / "out", "eval_mmvu")
        assert mmvu["data_source"] == "mmvu/multiple_choice"
        assert "<think> and </think>" in mmvu["prompt"][0]["content"]  # the release's evaluation wording

    def test_fourteen_options(self, root: Path) -> None:
        options = [f"{letter}. {number}" for number, letter in enumerate("ABCDEFGHIJKLMN")]
        write(root, "eval_videommmu.json", row(1, options=options, solution="<answer>N</answer>"))
        (made,) = converted(root, "eval_videommmu")
        assert made["reward_model"]["ground_truth"] == "N"
        assert "M. 12\nN. 13\n" in made["prompt"][0]["content"]

    def test_clip_bounds_are_kept(self, root: Path) -> None:
        bounds = [{"start": 3.5, "end": 9}, {"video_start": 2, "end": None}, {"start": None, "end": None}]
        write(root, "eval_mvbench.json", *(row(i, **bound) for i, bound in enumerate(bounds)))
        clip = str(root / "NeXT-QA" / "clip.mp4")
        assert [r["videos"] for r in converted(root, "eval_mvbench")] == [
            [video_entry(clip, 3.5, 9.0)],
            [video_entry(clip, 2.0)],
            [video_entry(clip)],
        ]

    def test_a_folder_of_frames_says_its_rate(self, root: Path) -> None:
        frames = {"data_type": "frame", "path": "./Evaluation/TVQA/scene"}
        write(root, "eval_mvbench.json", row(1, start=1, end=4, **frames), row(2, fps=2, **frames))
        folder = str(root / "Evaluation" / "TVQA" / "scene")
        assert [r["videos"] for r in converted(root, "eval_mvbench")] == [
            [video_entry(folder, 1.0, 4.0, 3.0)],  # TVQA's three frames a second
            [video_entry(folder, raw_fps=2.0)],
        ]

    def test_order_is_kept_and_a_sample_leaves_them_whole(self, root: Path) -> None:
        write(root, "Video-R1-260k.json", *(row(i) for i in range(20)))
        write(root, "eval_mmvu.json", *(row(i) for i in range(19, -1, -1)))
        assert len(converted(root, sample=5)) == 5
        assert ids_of(root.parent / "out", "eval_mmvu") == [str(i) for i in range(19, -1, -1)]


TRAINING, EVALUATION = "Video-R1-260k.json", "eval_mvbench.json"
# kind of damage: (file, row, field to blame, how the reason begins)
BAD: dict[str, tuple[str, Any, str, str]] = {
    "null row": (TRAINING, None, "(row)", "must be a JSON object: found None"),
    "list for a row": (TRAINING, [row(9)], "(row)", "must be a JSON object: found [{"),
    "no problem": (TRAINING, {"problem_id": 9}, "problem_type", "is missing"),
    "null problem": (TRAINING, row(9, problem=None), "problem", "must be a text: found None"),
    "problem of blanks": (TRAINING, row(9, problem=" \n"), "problem", "must not be empty"),
    "mark in the problem": (TRAINING, row(9, problem="<video>What?"), "problem", "contains the media mark <video>"),
    "token in an option": (
        TRAINING,
        row(9, options=["A. <|video_pad|>", "B. b"]),
        "options",
        "contains a special token: '<|video_pad|>'",
    ),
    "duplicate id": (TRAINING, row(0), "problem_id", "was used by an earlier row: 0, in line 2"),
    "id is a fraction": (TRAINING, row(1.5), "problem_id", "must be a whole number or a text: found 1.5"),
    "unknown data type": (
        TRAINING,
        row(9, data_type="audio"),
        "data_type",
        "must be one of image, video: found 'audio'",
    ),
    "frames in training": (
        TRAINING,
        row(9, data_type="frame"),
        "data_type",
        "must be one of image, video: found 'frame'",
    ),
    "list for a data type": (
        TRAINING,
        row(9, data_type=["video"]),
        "data_type",
        "must be one of image, video: found [",
    ),
    "unknown problem type": (
        TRAINING,
        row(9, problem_type="Multiple Choice"),
        "problem_type",
        "must be one of multiple choice, numerical",
    ),
    "null options": (TRAINING, row(9, options=None), "options", "must be a list: found None"),
    "null options of an open question": (
        TRAINING,
        open_row(9, "OCR", "x") | {"options": None},
        "options",
        "must be a list: found None",
    ),
    "options are a text": (TRAINING, row(9, options="A. a"), "options", "must be a list: found 'A. a'"),
    "no options": (TRAINING, row(9, options=[]), "options", "must be 2 to 26 texts: has 0"),
    "27 options": (
        TRAINING,
        row(9, options=[f"{c}. x" for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ["]),
        "options",
        "must be 2 to 26 texts: has 27",
    ),
    "number among options": (TRAINING, row(9, options=["A. a", 2]), "options", "must be a text: found 2"),
    "empty option": (TRAINING, row(9, options=["A. a", ""]), "options", "holds an empty text: ['A. a', '']"),
    "options without letters": (
        TRAINING,
        row(9, options=["Apple", "Banana"]),
        "options",
        "must be lettered from A on, as in 'A. text': found 'Apple'",
    ),
    "a letter left out": (
        TRAINING,
        row(9, options=["A. a", "C. c"]),
        "options",
        "must be lettered from A on, as in 'A. text': found 'C. c' for B",
    ),
    "options of an open question": (
        TRAINING,
        open_row(9, "OCR", "x") | {"options": OPTIONS},
        "options",
        "must be empty where problem_type is OCR",
    ),
    "answer not among the options": (
        TRAINING,
        row(9, solution="<answer>E</answer>"),
        "solution",
        "is not among the options' letters A to D: 'E'",
    ),
    "answer is an option's text": (
        TRAINING,
        row(9, solution="<answer>B. a blue cup</answer>"),
        "solution",
        "is not among the options' letters A to D",
    ),
    "answer without tags": (
        TRAINING,
        row(9, solution="B"),
        "solution",
        "must be one <answer>...</answer> and nothing else",
    ),
    "answer not closed": (TRAINING, row(9, solution="<answer>B"), "solution", "must be one <answer>...</answer>"),
    "two answers": (
        TRAINING,
        row(9, solution="<answer>B</answer><answer>C</answer>"),
        "solution",
        "must be one <answer>...</answer>",
    ),
    "empty answer": (TRAINING, row(9, solution="<answer> </answer>"), "solution", "must not be empty between its tags"),
    "null solution": (TRAINING, row(9, solution=None), "solution", "must be a text: found None"),
    "number in words": (
        TRAINING,
        open_row(9, "numerical", "five"),
        "solution",
        "must be a number where problem_type is numerical: found 'five'",
    ),
    "infinite number": (
        TRAINING,
        open_row(9, "regression", "inf"),
        "solution",
        "must be a number where problem_type is",
    ),
    "path that leaves ROOT": (TRAINING, row(9, path="./../secret.mp4"), "path", "leaves ROOT: './../secret.mp4'"),
    "absolute path": (TRAINING, row(9, path="/etc/passwd"), "path", "leaves ROOT: '/etc/passwd'"),
    "path is a number": (TRAINING, row(9, path=5), "path", "must be a text: found 5"),
    "missing clip": (TRAINING, row(9, path="./NeXT-QA/gone.mp4"), "path", "does not exist: './NeXT-QA/gone.mp4'"),
    "missing folder": (TRAINING, row(9, path="./gone/clip.mp4"), "path", "does not exist: './gone/clip.mp4'"),
    "folder for a clip": (TRAINING, row(9, path="./NeXT-QA"), "path", "is a folder, not a file: './NeXT-QA'"),
    "no source": (TRAINING, row(9, data_source=""), "data_source", "must not be empty"),
    "file for a folder of frames": (
        EVALUATION,
        row(9, data_type="frame"),
        "path",
        "is a file, not a folder of frames: './NeXT-QA/clip.mp4'",
    ),
    "folder without frames": (
        EVALUATION,
        row(9, data_type="frame", path="./Evaluation/TVQA/empty"),
        "path",
        "is an empty folder: ",
    ),
    "frame rate of 0": (
        EVALUATION,
        row(9, data_type="frame", path="./Evaluation/TVQA/scene", fps=0),
        "fps",
        "must be above 0: 0.0",
    ),
    "start is a text": (EVALUATION, row(9, start="3.5"), "start", "must be a finite number: found '3.5'"),
    "start is NaN": (EVALUATION, row(9, start=float("nan")), "start", "must be a finite number: found nan"),
    "negative start": (EVALUATION, row(9, start=-1, end=3), "start", "must not be negative: -1.0"),
    "ends before it starts": (
        EVALUATION,
        row(9, start=5, end=5),
        "end",
        "must be behind the start: 5.0, starts at 5.0",
    ),
    "start twice": (EVALUATION, row(9, start=1, video_start=2), "video_start", "says again what start says"),
    "bounds of an image": (
        EVALUATION,
        row(9, data_type="image", path="./Chart/chart.png", end=3),
        "start",
        "an image has no clip bounds",
    ),
    "bounds by another name": (
        EVALUATION,
        row(9, clip_start=3),
        "clip_start",
        "looks like a clip bound, but bounds are read from start and end only",
    ),
}


@pytest.mark.parametrize(("file", "bad", "field", "reason"), BAD.values(), ids=BAD.keys())
def test_a_bad_row_is_left_out_and_named(root: Path, file: str, bad: Any, field: str, reason: str) -> None:
    path = write(root, file, row(0), bad, row(1))
    convert(root, root.parent / "out")
    assert ids_of(root.parent / "out", path.stem) == ["0", "1"]
    (rejected,) = rejected_of(root.parent / "out")
    # the first row ends in a line of its own, '  },'; the bad one begins behind it
    line = path.read_text().splitlines().index("  },") + 2
    assert rejected[:3] == (file, line, field)
    assert rejected[3].startswith(reason)


class TestColdStart:
    REASONED = "<think>It is blue.</think>"

    @staticmethod
    def frames(root: Path, clip: dict[str, Any]) -> torch.Tensor:
        """What qwen-vl-utils makes of 24 frames at 8 a second, where no decoder of its loads."""
        assert clip["video"] == str(root / "NeXT-QA" / "clip.mp4")
        assert (clip["fps"], clip["max_frames"], clip["max_pixels"]) == (2.0, 16, 128 * 28 * 28)
        return torch.zeros(6, 3, 56, 56)

    def test_a_row_becomes_a_conversation(self, root: Path) -> None:
        write(root, "Video-R1-COT-165k.json", row(3, process=self.REASONED))
        (made,) = converted(root, "Video-R1-COT-165k", style="plain")
        assert pq.read_schema(root.parent / "out" / "Video-R1-COT-165k.parquet").equals(SFT_SCHEMA)
        assert [message["role"] for message in made["messages"]] == ["user", "assistant"]
        assert made["messages"][0]["content"].startswith("<video>What does the person pick up?Options:\nA. a red cup\n")
        assert made["messages"][1]["content"] == "<think>It is blue.</think>\n<answer>B</answer>"
        budget = {"fps": 2.0, "min_frames": 4, "max_frames": 16, "max_pixels": 128 * 28 * 28}
        assert made["videos"] == [{"video": str(root / "NeXT-QA" / "clip.mp4"), **budget}]

    @pytest.mark.parametrize(
        ("process", "reason"),
        [
            ("", "must not be empty"),
            (None, "must be a text: found None"),
            ("It is blue.", "must be <think>...</think> and nothing else: found 'It is blue.'"),
            ("<think>It is blue.", "must be <think>...</think> and nothing else: found '<think>It is blue.'"),
            ("<think>a</think> so <answer>C</answer>", "must be <think>...</think> and nothing else: found '<think>a<"),
            ("<think>a <|im_end|></think>", "contains a special token: '<|im_end|></think>'"),
        ],
    )
    def test_reasoning_that_is_none_is_named(self, root: Path, process: Any, reason: str) -> None:
        write(root, "Video-R1-COT-165k.json", row(3, process=process))
        assert converted(root, "Video-R1-COT-165k") == []
        ((_, line, field, found),) = rejected_of(root.parent / "out")
        assert (line, field) == (2, "process")
        assert found.startswith(reason)

    @pytest.mark.parametrize("reader", [pytest.param("qwen-vl-utils", marks=NEEDS_TORCHCODEC), "none"])
    def test_verls_sft_trainer_reads_it_and_learns_the_response_alone(
        self, root: Path, reader: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from omegaconf import OmegaConf
        from verl.utils import hf_tokenizer
        from verl.utils.dataset import multiturn_sft_dataset

        if reader == "none":
            monkeypatch.setattr(multiturn_sft_dataset, "process_video", lambda clip, **_: self.frames(root, clip))
        write_clip(root / "NeXT-QA" / "clip.mp4", width=56, height=56)  # 24 frames at 8 a second: 6 of them at 2
        Image.fromarray(np.zeros((56, 56, 3), np.uint8)).save(root / "Chart" / "chart.png")
        image = row(4, process=self.REASONED, data_type="image", path="./Chart/chart.png")
        write(root, "Video-R1-COT-165k.json", row(3, process=self.REASONED), image)
        convert(root, root.parent / "out", style="plain")
        dataset = multiturn_sft_dataset.MultiTurnSFTDataset(
            [str(root.parent / "out" / "Video-R1-COT-165k.parquet")],
            hf_tokenizer(str(CHECKPOINT)),
            OmegaConf.create({"max_length": 512}),
            build_processor(),
        )
        for index, (name, grid) in enumerate([("video_grid_thw", [3, 4, 4]), ("image_grid_thw", [1, 4, 4])]):
            item = dataset[index]
            assert item["multi_modal_inputs"][name].tolist() == [grid]
            learnt = dataset.tokenizer.decode(item["input_ids"][item["loss_mask"].bool()])
            assert learnt.strip() == "<think>It is blue.</think>\n<answer>B</answer><|im_end|>"


class TestSample:
    def test_the_mix_of_sources_is_kept(self, root: Path) -> None:
        sources = ["NeXT-QA"] * 60 + ["STAR"] * 30 + ["CLEVRER"] * 10
        write(root, "Video-R1-260k.json", *(row(i, data_source=source) for i, source in enumerate(sources)))
        made = converted(root, sample=10)
        # 10 of 100: a tenth of each source
        assert Counter(m["extra_info"]["source"] for m in made) == {"NeXT-QA": 6, "STAR": 3, "CLEVRER": 1}
        ids = [int(m["extra_info"]["id"]) for m in made]
        assert ids == sorted(ids)  # the file's order

    def test_it_depends_on_the_seed_and_not_on_the_order(self, root: Path) -> None:
        rows = [row(i) for i in range(50)]
        write(root, "Video-R1-260k.json", *rows)
        first = {m["extra_info"]["id"] for m in converted(root, sample=10)}
        assert {m["extra_info"]["id"] for m in converted(root, sample=10, seed=1)} != first
        write(root, "Video-R1-260k.json", *rows[::-1])
        assert {m["extra_info"]["id"] for m in converted(root, sample=10)} == first

    def test_what_is_left_is_counted(self, root: Path) -> None:
        write(root, "Video-R1-260k.json", *(row(i) for i in range(5)), row(9, path="gone"))
        conversion = convert(root, root.parent / "out", sample=2, dry_run=True)
        tally = conversion.tallies["Video-R1-260k.json"]
        assert (tally.rows, tally.not_sampled, tally.rejected.total()) == (2, 3, 1)


def test_a_root_without_files_says_what_it_wants(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds none of Video-R1-260k\.json, .*Evaluation/eval_mmvu\.json"):
        convert(tmp_path, tmp_path / "out")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({}, (None, None, None)),
        ({"task_type": "Counting", "duration": "short", "domain": "Knowledge"}, ("Counting", "short", "Knowledge")),
        ({"question_type": "room_size_estimation", "duration": 12.5}, ("room_size_estimation", None, None)),
        ({"original_question_type": "route_planning"}, ("route_planning", None, None)),
    ],
)
def test_a_benchmarks_categories_are_kept_where_its_rows_have_them(root: Path, given: dict, kept: tuple) -> None:
    write(root, "eval_videomme.json", row(1, path="./Evaluation/clip.mp4", **given))
    (made,) = converted(root, "eval_videomme")
    info = made["extra_info"]
    assert (info["task_type"], info["duration"], info["domain"]) == kept
    assert info["question"] == "What does the person pick up?"
