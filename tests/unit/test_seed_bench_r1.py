"""The converter: verl's schema, options drawn from seed and id, bad rows named and never a traceback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from data_prep.seed_bench_r1 import SCHEMA, convert, convert_file

NEGATIVES = ["open drawer", "grab knife", "close drawer", "slice onion", "peel onion"]


def training_row(number: int, **changes: Any) -> dict[str, Any]:
    row = {
        "sample_id": number,
        "video_source": "EpicKitchens",
        "video_id": "P07_113",
        "task_goal": "Cut and peel the onion",
        "question": "What action should I take next?",
        "answer": "grab onion",
        "current_observation_frame": 9308,
        "task_progress_metadata": [{"narration_text": "open drawer", "start_frame": 9162, "stop_frame": 9203}],
        "negative_answers": NEGATIVES,
        "video_basename": "clip.mp4",
        "current_observation_basename": "now.png",
    }
    return row | changes


def validation_row(number: int | str, **changes: Any) -> dict[str, Any]:
    row = {k: v for k, v in training_row(0, sample_id=number).items() if k not in ("negative_answers", "answer")}
    choices = dict(zip(("choice_a", "choice_b", "choice_c", "choice_d"), ["w", "x", "y", "z"], strict=True))
    return row | choices | {"golden_choice_idx": "C"} | changes


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder, name in (("videos", "clip.mp4"), ("images", "now.png")):
        (tmp_path / folder / "EpicKitchens").mkdir(parents=True)
        (tmp_path / folder / "EpicKitchens" / name).touch()
    (tmp_path / "annotations").mkdir()
    return tmp_path


def annotate(root: Path, name: str, *rows: Any) -> Path:
    path = root / "annotations" / f"{name}.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_a_training_row_becomes_verls_row(root: Path) -> None:
    annotate(root, "training_6k", training_row(39))
    convert(root, root / "out", style="plain")
    table = pq.read_table(root / "out" / "training_6k.parquet")
    assert table.schema.equals(SCHEMA)
    (row,) = table.to_pylist()
    assert row["data_source"] == "seed_bench_r1/train"
    assert row["videos"] == [{"video": str(root / "videos/EpicKitchens/clip.mp4")}]
    assert row["images"] == [{"image": str(root / "images/EpicKitchens/now.png")}]
    options = row["extra_info"]["options"]
    lines = "".join(f"{letter}. {option}\n" for letter, option in zip("ABCD", options, strict=True))
    content = "<video><image>What action should I take next?Options:\n" + lines
    assert row["prompt"] == [{"role": "user", "content": content}]
    assert options["ABCD".index(row["reward_model"]["ground_truth"])] == "grab onion"
    assert len(set(options)) == 4
    assert set(options) <= {"grab onion", *NEGATIVES}
    assert row["extra_info"]["id"] == "39"
    assert row["extra_info"]["progress"] == ["open drawer"]


def test_the_video_is_there_only_with_progress_and_the_image_always(root: Path) -> None:
    annotate(root, "training_6k", training_row(1, task_progress_metadata=[], video_basename="absent.mp4"))
    convert(root, root / "out")
    (row,) = pq.read_table(root / "out" / "training_6k.parquet").to_pylist()
    assert row["videos"] == []
    assert row["prompt"][0]["content"].startswith("<image>What")


def test_the_released_prompt_ends_with_the_hint(root: Path) -> None:
    annotate(root, "training_6k", training_row(1))
    convert(root, root / "out")
    (row,) = pq.read_table(root / "out" / "training_6k.parquet").to_pylist()
    content = row["prompt"][0]["content"]
    assert "D. " in content
    assert "\nPlease think about this question as if you were a human pondering deeply." in content
    assert content.endswith("Please provide only the single option letter (e.g., A, B, C, D, etc.) within the "
                            "<answer> </answer> tags.")  # fmt: skip


def test_validation_keeps_its_order_and_l3_its_domain(root: Path) -> None:
    annotate(root, "validation_L3", validation_row("x-1", domain="work", scenario="Baker"))
    convert(root, root / "out")
    (row,) = pq.read_table(root / "out" / "validation_L3.parquet").to_pylist()
    assert row["data_source"] == "seed_bench_r1/L3"
    assert row["extra_info"]["options"] == ["w", "x", "y", "z"]
    assert row["reward_model"]["ground_truth"] == "C"
    assert (row["extra_info"]["domain"], row["extra_info"]["scenario"]) == ("work", "Baker")


def options_by_id(path: Path, root: Path, seed: int) -> dict[str, list[str]]:
    return {r["extra_info"]["id"]: r["extra_info"]["options"] for r in convert_file(path, root, seed, "plain").rows}


def test_options_depend_on_the_seed_and_the_id_not_on_the_reading_order(root: Path) -> None:
    rows = [training_row(i) for i in range(40)]
    path = annotate(root, "training_6k", *rows)
    first = options_by_id(path, root, seed=0)
    reordered = [row | {"negative_answers": NEGATIVES[::-1]} for row in rows[::-1]]
    assert options_by_id(annotate(root, "training_6k", *reordered), root, seed=0) == first
    assert options_by_id(path, root, seed=1) != first
    places = [options.index("grab onion") for options in first.values()]
    assert set(places) == {0, 1, 2, 3}
    assert len({frozenset(options) for options in first.values()}) > 1


BAD = {
    "not JSON": ("{oops", "(row)"),
    "not an object": ([1], "(row)"),
    "missing field": ({k: v for k, v in training_row(9).items() if k != "question"}, "question"),
    "empty text": (training_row(9, answer=" "), "answer"),
    "null list": (training_row(9, negative_answers=None), "negative_answers"),
    "null progress": (training_row(9, task_progress_metadata=None), "task_progress_metadata"),
    "too few negatives": (training_row(9, negative_answers=["grab onion", "a", "a", "b"]), "negative_answers"),
    "duplicate id": (training_row(0), "sample_id"),
    "no id": (training_row(9, sample_id=None), "sample_id"),
    "path that leaves ROOT": (training_row(9, video_basename="../../../etc/passwd"), "video_basename"),
    "absolute path": (training_row(9, current_observation_basename="/etc/passwd"), "current_observation_basename"),
    "source that leaves ROOT": (training_row(9, video_source="../annotations"), "video_basename"),
    "missing clip": (training_row(9, video_basename="absent.mp4"), "video_basename"),
    "missing image": (training_row(9, current_observation_basename="absent.png"), "current_observation_basename"),
    "media mark in a text": (training_row(9, question="What does <image> show?"), "question"),
}


@pytest.mark.parametrize(("row", "field"), BAD.values(), ids=BAD.keys())
def test_a_bad_training_row_is_left_out_and_named(root: Path, row: Any, field: str) -> None:
    annotate(root, "training_6k", training_row(0), row, training_row(1))
    converted = convert(root, root / "out")["training_6k"]
    assert [r["extra_info"]["id"] for r in converted.rows] == ["0", "1"]
    (rejected,) = [json.loads(line) for line in (root / "out" / "rejected.jsonl").read_text().splitlines()]
    assert (rejected["file"], rejected["line"], rejected["field"]) == ("training_6k.jsonl", 2, field)
    assert rejected["reason"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"golden_choice_idx": "E"}, "golden_choice_idx"),
        ({"choice_b": None}, "choice_b"),
        ({"choice_b": "w"}, "choice_a"),
        ({"answer": "x"}, "answer"),  # the choice C is y
    ],
)
def test_a_bad_validation_row_is_left_out_and_named(root: Path, changes: dict[str, Any], field: str) -> None:
    annotate(root, "validation_L1", validation_row(5, **changes))
    converted = convert(root, root / "out")["validation_L1"]
    assert converted.rows == []
    assert [r["field"] for r in converted.rejected] == [field]


def test_a_linked_media_folder_is_fine(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("disk") / "videos"
    (root / "videos").rename(elsewhere)
    (root / "videos").symlink_to(elsewhere)
    annotate(root, "training_6k", training_row(1))
    assert len(convert(root, root / "out")["training_6k"].rows) == 1


def test_a_root_without_annotations_says_what_it_wants(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"training_6k\.jsonl.*ROOT is the folder with annotations"):
        convert(tmp_path, tmp_path / "out")
