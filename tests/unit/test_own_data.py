"""One's own files in the data tools: media in columns of other names, ids that repeat or are null."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep import check_media, prompt_lengths
from data_prep.common.schema import RL_SCHEMA, image_entry, rl_row, video_entry
from recipes.quickstart.stages import CHECKPOINT
from tests.unit.clips import write_clip
from tests.unit.converted import ids_of, rejected_of, rows_of
from tests.unit.media_rows import kept_ids, unusable

FAKE = "tests.unit.hostile_helper"


def own_row(id: str | None, videos=(), images=(), source="mine/a", problem_type: str | None = "OCR") -> dict:
    clips, pictures = [video_entry(str(clip)) for clip in videos], [image_entry(str(image)) for image in images]
    return rl_row(data_source=source, text="?", ground_truth="A", videos=clips, images=pictures, id=id,
                  problem_type=problem_type)  # fmt: skip


def write(path: Path, *rows: dict, videos: str = "videos", images: str = "images", left_out: tuple[str, ...] = ()):
    table = pa.Table.from_pylist(rows, RL_SCHEMA)
    names = [{"videos": videos, "images": images}.get(name, name) for name in table.column_names]
    pq.write_table(table.rename_columns(names).drop_columns(list(left_out)), path)
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Clips of a fake decoder, which does what their names say."""
    monkeypatch.setattr(check_media, "check", partial(check_media.check, worker=FAKE))
    for name in ("a.mp4", "crash.mp4", "a.png"):
        (tmp_path / name).write_text(name)
    return tmp_path


def command(module, monkeypatch, *arguments: object) -> int:
    monkeypatch.setattr("sys.argv", ["x", *map(str, arguments)])
    return module.main()


# check_media


def test_clips_of_another_column_are_judged(folder, monkeypatch):
    rows = [own_row("good", [folder / "a.mp4"], [folder / "a.png"]), own_row("bad", [folder / "crash.mp4"])]
    parquet = write(folder / "rows.parquet", *rows, videos="clips", images="stills")
    arguments = (parquet, "--video-key", "clips", "--image-key", "stills", "--jobs", 1)
    assert command(check_media, monkeypatch, *arguments) == 0
    assert kept_ids(parquet) == ["good"]
    assert unusable(parquet) == {"bad": "decoder died: SIGSEGV"}
    (line,) = parquet.with_suffix(".unusable.jsonl").read_text().splitlines()
    assert json.loads(line)["field"] == "clips"


def test_clips_of_a_column_that_nobody_named_are_not_passed_as_usable(folder, monkeypatch):
    rows = [own_row("clip", [folder / "crash.mp4"]), own_row("image", images=[folder / "a.png"])]
    parquet = write(folder / "rows.parquet", *rows, videos="clips")
    assert command(check_media, monkeypatch, parquet, "--jobs", 1) == 0
    assert kept_ids(parquet) == ["image"]
    reason = "must have a mark for each of the media: 1 <video> in prompt, and no column videos (data.video_key)"
    assert unusable(parquet) == {"clip": reason}


def test_rows_without_a_chat_are_not_asked_for_marks(folder, monkeypatch):
    rows = [own_row("1", [folder / "a.mp4"])]
    parquet = write(folder / "rows.parquet", *rows, left_out=("prompt",))  # a file for SFT, say
    assert command(check_media, monkeypatch, parquet, "--jobs", 1) == 0
    assert kept_ids(parquet) == ["1"]


@pytest.mark.parametrize(
    ("options", "left_out", "told"),
    [
        (("--video-key", "clip"), (), "has no column clip, only data_source, prompt, clips, images,"),
        (("--image-key", "stills"), ("clips",), "has no column videos or stills, only data_source,"),
        ((), ("images",), "has no column videos or images, only data_source, prompt, clips,"),
    ],
)
def test_a_column_that_is_not_there_is_refused(folder, monkeypatch, capsys, options, left_out, told):
    parquet = write(folder / "rows.parquet", own_row("1"), videos="clips", left_out=left_out)
    assert command(check_media, monkeypatch, parquet, *options) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.endswith(": --video-key and --image-key name the columns of media\n")


# prompt_lengths


def test_prompts_are_measured_with_the_clips_of_another_column(tmp_path, monkeypatch):
    row = own_row("1", [write_clip(tmp_path / "clip.mp4")])
    parquet, out = write(tmp_path / "rows.parquet", row, videos="clips"), tmp_path / "out"
    arguments = (parquet, "--out", out, "--model", CHECKPOINT, "--max-prompt-length")
    keys = ("--video-key", "clips")
    assert command(prompt_lengths, monkeypatch, *arguments, 9999, *keys) == 0
    assert [row["clips"] for row in rows_of(out, "rows")] == [row["videos"]]
    assert command(prompt_lengths, monkeypatch, *arguments, 1, *keys) == 0
    ((*_, reason),) = rejected_of(out)
    assert reason.startswith("is longer than 1 tokens: has ")
    assert command(prompt_lengths, monkeypatch, *arguments, 9999) == 0
    reason = "cannot be used: 1 <video> in prompt, and no column videos (data.video_key)"
    assert rejected_of(out) == [("rows.parquet", 1, "videos or images", reason)]


def measured(folder: Path, *rows: dict):
    """None of them is too long."""
    return prompt_lengths.measure([write(folder / "rows.parquet", *rows)], folder / "out", lambda row: 1, limit=9)


def test_ids_of_two_data_sources_may_repeat(tmp_path):
    measured(tmp_path, own_row("1"), own_row("1", source="mine/b"), own_row("1"))
    assert ids_of(tmp_path / "out", "rows") == ["1", "1", "1"]
    assert rejected_of(tmp_path / "out") == []


def test_rows_without_ids_stay(tmp_path, capsys):
    from rich.console import Console

    done = measured(tmp_path, own_row(None), own_row(None), own_row("2", problem_type=None))
    assert ids_of(tmp_path / "out", "rows") == [None, None, "2"]
    done.print_summary(Console(width=120))  # a null problem type is one like the others
    assert "mine/a" in capsys.readouterr().out


def test_rows_without_the_fields_of_a_converter_stay(tmp_path):
    row = own_row("1") | {"extra_info": None}
    measured(tmp_path, row, row)
    assert len(rows_of(tmp_path / "out", "rows")) == 2


def test_a_file_without_a_field_of_ids_is_taken(tmp_path):
    info = pa.array([{"problem_type": "OCR"}] * 2)
    table = pa.Table.from_pylist([own_row("1"), own_row("2")], RL_SCHEMA)
    table = table.set_column(table.column_names.index("extra_info"), "extra_info", info)
    pq.write_table(table, tmp_path / "rows.parquet")
    prompt_lengths.measure([tmp_path / "rows.parquet"], tmp_path / "out", lambda row: 1, 9)
    assert len(rows_of(tmp_path / "out", "rows")) == 2
