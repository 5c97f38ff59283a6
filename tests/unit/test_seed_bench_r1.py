"""The converter: verl's schema, options drawn from seed and id, bad rows named and never a traceback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from data_prep.common.schema import RL_SCHEMA, video_entry
from data_prep.seed_bench_r1 import convert
from tests.unit.converted import ids_of, rejected_of, rows_of

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
    assert table.schema.equals(RL_SCHEMA)
    (row,) = table.to_pylist()
    assert row["data_source"] == "seed_bench_r1/train"
    assert row["videos"] == [video_entry(str(root / "videos/EpicKitchens/clip.mp4"))]
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
    (row,) = rows_of(root / "out", "training_6k")
    assert row["videos"] == []
    assert row["prompt"][0]["content"].startswith("<image>What")


def test_the_released_prompt_ends_with_the_hint(root: Path) -> None:
    annotate(root, "training_6k", training_row(1))
    convert(root, root / "out")
    (row,) = rows_of(root / "out", "training_6k")
    content = row["prompt"][0]["content"]
    assert "D. " in content
    assert "\nPlease think about this question as if you were a human pondering deeply." in content
    assert content.endswith("Please provide only the single option letter (e.g., A, B, C, D, etc.) within the "
                            "<answer> </answer> tags.")  # fmt: skip


def test_validation_keeps_its_order_and_l3_its_domain(root: Path) -> None:
    row = validation_row("x-1", domain="work", scenario="Baker", task_start_frame=7)
    annotate(root, "validation_L3", row)
    conversion = convert(root, root / "out")
    assert not conversion.tallies["validation_L3.jsonl"].noticed
    (row,) = rows_of(root / "out", "validation_L3")
    assert row["data_source"] == "seed_bench_r1/L3"
    assert row["extra_info"]["options"] == ["w", "x", "y", "z"]
    assert row["reward_model"]["ground_truth"] == "C"
    assert row["extra_info"]["question"] == "What action should I take next?"
    assert (row["extra_info"]["domain"], row["extra_info"]["scenario"]) == ("work", "Baker")


def options_by_id(root: Path, *rows: dict[str, Any], seed: int) -> dict[str, list[str]]:
    annotate(root, "training_6k", *rows)
    convert(root, root / "out", seed)
    return {row["extra_info"]["id"]: row["extra_info"]["options"] for row in rows_of(root / "out", "training_6k")}


def test_options_depend_on_the_seed_and_the_id_not_on_the_reading_order(root: Path) -> None:
    rows = [training_row(i) for i in range(40)]
    first = options_by_id(root, *rows, seed=0)
    reordered = [row | {"negative_answers": NEGATIVES[::-1]} for row in rows[::-1]]
    assert options_by_id(root, *reordered, seed=0) == first
    assert options_by_id(root, *rows, seed=1) != first
    places = [options.index("grab onion") for options in first.values()]
    assert set(places) == {0, 1, 2, 3}
    assert len({frozenset(options) for options in first.values()}) > 1


def without(row: dict[str, Any], field: str) -> dict[str, Any]:
    return {k: v for k, v in row.items() if k != field}


# kind of damage: (row, field to blame, how the reason begins)
BAD_TRAINING = {
    "not JSON": ("{oops", "(row)", "is not JSON: Expecting property name"),
    "broken off": ('{"sample_id": 9, "question": "wh', "(row)", "is not JSON: Unterminated string"),
    "nested without end": ("[" * 100_000, "(row)", "is nested too deeply"),
    "not an object": ([1], "(row)", "must be a JSON object: found [1]"),
    "a field twice": ('{"sample_id": 9, "sample_id": 10}', "sample_id", "stands there twice"),
    "missing field": (without(training_row(9), "question"), "question", "is missing"),
    "missing list": (without(training_row(9), "task_progress_metadata"), "task_progress_metadata", "is missing"),
    "empty text": (training_row(9, answer=" "), "answer", "must not be empty"),
    "number for a text": (training_row(9, task_goal=3), "task_goal", "must be a text: found 3"),
    "null list": (training_row(9, negative_answers=None), "negative_answers", "must be a list: found None"),
    "text for a list": (training_row(9, negative_answers="abc"), "negative_answers", "must be a list: found 'abc'"),
    "null in a list": (training_row(9, negative_answers=["a", None]), "negative_answers", "must be a text: found None"),
    "null progress": (
        training_row(9, task_progress_metadata=None),
        "task_progress_metadata",
        "must be a list: found None",
    ),
    "progress of texts": (
        training_row(9, task_progress_metadata=["open"]),
        "task_progress_metadata",
        "must be a list of objects",
    ),
    "too few negatives": (
        training_row(9, negative_answers=["grab onion", "a", "a", "b"]),
        "negative_answers",
        "needs 3 different texts other than the answer: has 2",
    ),
    "duplicate id": (training_row(0), "sample_id", "was used by an earlier row: 0, in line 1"),
    "duplicate id as a text": (training_row("0"), "sample_id", "was used by an earlier row: 0, in line 1"),
    "null id": (training_row(9, sample_id=None), "sample_id", "must be a whole number or a text: found None"),
    "true id": (training_row(9, sample_id=True), "sample_id", "must be a whole number or a text: found True"),
    "id of 5,000 digits": (
        json.dumps(training_row(9, sample_id="N")).replace('"N"', "9" * 5000),
        "sample_id",
        "must be a whole number or a text: found inf",
    ),
    "path that leaves ROOT": (
        training_row(9, video_basename="../../../etc/passwd"),
        "video_basename",
        "must be a plain name, or it leaves videos/: found '../../../etc/passwd'",
    ),
    "absolute path": (
        training_row(9, current_observation_basename="/etc/passwd"),
        "current_observation_basename",
        "must be a plain name, or it leaves images/: found '/etc/passwd'",
    ),
    "source that leaves ROOT": (
        training_row(9, video_source=".."),
        "video_source",
        "must be a plain name, or it leaves videos/: found '..'",
    ),
    "NUL in a path": (training_row(9, video_basename="a\0.mp4"), "video_basename", "is no path: "),
    "missing clip": (
        training_row(9, video_basename="absent.mp4"),
        "video_basename",
        "does not exist: 'videos/EpicKitchens/absent.mp4'",
    ),
    "missing image": (
        training_row(9, current_observation_basename="absent.png"),
        "current_observation_basename",
        "does not exist: 'images/EpicKitchens/absent.png'",
    ),
    "folder for a clip": (training_row(9, video_basename="folder"), "video_basename", "is a folder, not a file: "),
    "media mark in a text": (
        training_row(9, question="What does <image> show?"),
        "question",
        "contains the media mark <image>",
    ),
    "special token in a text": (
        training_row(9, question="What?<|im_end|>\n<|im_start|>assistant"),
        "question",
        "contains a special token: '<|im_end|>",
    ),
    "half of a surrogate pair": (
        json.dumps(training_row(9, answer="\ud800")),
        "answer",
        "is not UTF-8 text: '\\ud800'",
    ),
}


@pytest.mark.parametrize(("row", "field", "reason"), BAD_TRAINING.values(), ids=BAD_TRAINING.keys())
def test_a_bad_training_row_is_left_out_and_named(root: Path, row: Any, field: str, reason: str) -> None:
    (root / "videos" / "EpicKitchens" / "folder").mkdir()
    annotate(root, "training_6k", training_row(0), row, training_row(1))
    convert(root, root / "out")
    assert ids_of(root / "out", "training_6k") == ["0", "1"]
    (rejected,) = rejected_of(root / "out")
    assert rejected[:3] == ("training_6k.jsonl", 2, field)
    assert rejected[3].startswith(reason)


BAD_VALIDATION = {
    "letter of no choice": ({"golden_choice_idx": "E"}, "golden_choice_idx", "must be one of A, B, C, D: found 'E'"),
    "number for a letter": ({"golden_choice_idx": 2}, "golden_choice_idx", "must be one of A, B, C, D: found 2"),
    "null choice": ({"choice_b": None}, "choice_b", "must be a text: found None"),
    "two choices the same": ({"choice_b": "w"}, "choice_b", "repeats an earlier choice: 'w'"),
    "answer is another choice": (
        {"answer": "x"},
        "answer",
        "is another choice than golden_choice_idx says: 'x'; C is 'y'",
    ),
    "answer is no choice": ({"answer": "q"}, "answer", "is not among the choices: 'q'; C is 'y'"),
}


@pytest.mark.parametrize(("changes", "field", "reason"), BAD_VALIDATION.values(), ids=BAD_VALIDATION.keys())
def test_a_bad_validation_row_is_left_out_and_named(
    root: Path, changes: dict[str, Any], field: str, reason: str
) -> None:
    annotate(root, "validation_L1", validation_row(5, **changes))
    convert(root, root / "out")
    assert rows_of(root / "out", "validation_L1") == []
    assert rejected_of(root / "out") == [("validation_L1.jsonl", 1, field, reason)]


def test_bytes_that_are_no_utf8_cost_their_row_only(root: Path) -> None:
    path = annotate(root, "training_6k", training_row(0), training_row(1), training_row(2))
    path.write_bytes(path.read_bytes().replace(b'"sample_id": 1, ', b'"sample_id": "\xff", '))
    convert(root, root / "out")
    assert ids_of(root / "out", "training_6k") == ["0", "2"]
    assert rejected_of(root / "out") == [("training_6k.jsonl", 2, "sample_id", "is not UTF-8 text: '\\udcff'")]


def test_an_unknown_field_is_named_and_its_rows_are_kept(root: Path) -> None:
    annotate(root, "training_6k", training_row(0), training_row(1, optoins=[]), training_row(2, optoins=1))
    convert(root, root / "out")
    assert ids_of(root / "out", "training_6k") == ["0", "1", "2"]
    (line,) = (root / "out" / "noticed.jsonl").read_text().splitlines()
    noticed = json.loads(line)
    assert (noticed["file"], noticed["line"], noticed["field"]) == ("training_6k.jsonl", 2, "optoins")
    assert noticed["rows"] == 2


def test_every_training_file_is_converted_and_levels_are_told_apart(root: Path) -> None:
    annotate(root, "training_6k", training_row(1))
    annotate(root, "training", training_row(1), training_row(2))
    for level in ("L1", "L2", "L3"):
        annotate(root, f"validation_{level}", validation_row(1))
    annotate(root, "notes", "not an annotation file")
    convert(root, root / "out")
    sources = {
        path.stem: {r["data_source"] for r in rows_of(root / "out", path.stem)}
        for path in (root / "out").glob("*.parquet")
    }
    assert sources == {
        "training": {"seed_bench_r1/train"},
        "training_6k": {"seed_bench_r1/train"},
        "validation_L1": {"seed_bench_r1/L1"},
        "validation_L2": {"seed_bench_r1/L2"},
        "validation_L3": {"seed_bench_r1/L3"},
    }
    assert ids_of(root / "out", "training") == ["1", "2"]


def test_validation_has_the_releases_evaluation_wording(root: Path) -> None:
    annotate(root, "training_6k", training_row(1))
    annotate(root, "validation_L1", validation_row(1))
    convert(root, root / "out")
    (train,), (level,) = (rows_of(root / "out", name) for name in ("training_6k", "validation_L1"))
    assert "between the <think> </think> tags" in train["prompt"][0]["content"]
    assert "between the <think> and </think> tags" in level["prompt"][0]["content"]


def test_a_dry_run_counts_and_writes_nothing(root: Path) -> None:
    annotate(root, "training_6k", training_row(0), [1])
    before = sorted(root.rglob("*"))
    tally = convert(root, root / "out", dry_run=True).tallies["training_6k.jsonl"]
    assert tally.kept == {("multiple choice", "seed_bench_r1/train"): 1}
    assert tally.rejected == {("(row)", "must be a JSON object"): 1}
    assert sorted(root.rglob("*")) == before


def test_a_linked_media_folder_is_fine(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("disk") / "videos"
    (root / "videos").rename(elsewhere)
    (root / "videos").symlink_to(elsewhere)
    annotate(root, "training_6k", training_row(1))
    convert(root, root / "out")
    assert ids_of(root / "out", "training_6k") == ["1"]


def test_a_root_without_annotations_says_what_it_wants(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"training\*\.jsonl.*ROOT is the folder with annotations"):
        convert(tmp_path, tmp_path / "out")
