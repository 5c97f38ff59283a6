"""Video-R1's files, made up in their layout: what they become."""

from __future__ import annotations

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
from tests.unit.video_r1_rows import media_root, open_row, row, write


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return media_root(tmp_path)


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
