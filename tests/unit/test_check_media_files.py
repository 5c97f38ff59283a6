"""Media checks by the real decoder: a verdict per file whatever is in it, and a parquet of what can be used."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from data_prep.check_media import Report, check
from tests.unit.clips import write_clip, write_sound
from tests.unit.media_rows import kept_ids, unusable, verdicts_of, write_rows


def write_image(path: Path) -> Path:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> tuple[Path, Report]:
    """One check of everything that files are made of in the wild."""
    folder = tmp_path_factory.mktemp("media")
    clip, image = Path(write_clip(folder / "clip.mp4")), write_image(folder / "image.png")
    (folder / "empty.mp4").touch()
    content = clip.read_bytes()
    (folder / "truncated.mp4").write_bytes(content[: len(content) // 2])
    (folder / "text.mp4").write_text("not a clip at all\n" * 100)
    write_sound(folder / "sound.mp4")
    shutil.copy(clip, folder / "clip.png")  # as an image: no
    shutil.copy(clip, folder / "clip.avi")  # as a clip of another kind: the name is no promise
    (folder / "empty.png").touch()
    (folder / "truncated.png").write_bytes(image.read_bytes()[:900])
    (folder / "text.png").write_text("no image")
    for name in ("frames", "no_frames", "damaged_frames"):
        (folder / name).mkdir()
    for number in range(3):
        write_image(folder / "frames" / f"{number}.png")
        write_image(folder / "damaged_frames" / f"{number}.png")
    (folder / "frames" / "index.txt").write_text("training reads image files only")
    (folder / "damaged_frames" / "1.png").write_text("no image")
    rows = [
        {"videos": [clip], "images": [image]},
        {"videos": [clip]},
        {"images": [image]},
        {"videos": [folder / "frames"]},
        {"videos": [folder / "clip.avi"]},
        {},
        {"videos": [{"video": str(clip), "video_start": 1.0, "video_end": 2.0}]},
        {"videos": [{"video": str(clip), "video_start": 3.0}]},  # 24 frames at 8 a second: 3 s long
        {"videos": [{"video": str(clip), "video_start": 2.0, "video_end": 1.0}]},
        *[{"videos": [folder / f"{name}.mp4"]} for name in ("empty", "truncated", "text", "sound", "missing")],
        *[{"videos": [folder / name]} for name in ("no_frames", "damaged_frames")],
        *[{"images": [folder / f"{name}.png"]} for name in ("empty", "truncated", "text", "clip", "missing")],
        {"videos": [clip], "images": [folder / "missing.png"]},
        {"images": [folder]},
    ]
    parquet = write_rows(folder / "rows.parquet", *rows)
    return parquet, check(parquet, jobs=1, seconds=100)


def test_rows_whose_media_can_be_used_are_kept(real):
    parquet, report = real
    assert kept_ids(parquet) == [f"row-{n}" for n in range(7)]
    assert (report.rows, report.unusable_rows) == (23, 16)
    assert set(unusable(parquet)) == {f"row-{n}" for n in range(7, 23)}


def test_nothing_but_rows_is_changed(real):
    parquet, _ = real
    whole, kept = pq.read_table(parquet), pq.read_table(parquet.with_suffix(".checked.parquet"))
    assert kept.equals(whole.slice(0, 7))


def test_a_readable_file_says_what_it_is(real):
    clip = verdicts_of(real[0])["clip.mp4"]
    facts = {key: clip[key] for key in ("kind", "readable", "frames", "seconds", "width", "height", "why", "limit_s")}
    assert facts == {
        "kind": "video",
        "readable": True,
        "frames": 24,
        "seconds": 3.0,
        "width": 64,
        "height": 48,
        "why": None,
        "limit_s": None,
    }
    assert clip["bytes"] == os.path.getsize(clip["path"])
    image = verdicts_of(real[0])["image.png"]
    assert (image["frames"], image["width"], image["height"]) == (1, 120, 90)
    assert verdicts_of(real[0])["frames"]["frames"] == 3


@pytest.mark.parametrize(
    "name",
    [
        *(f"{how}.mp4" for how in ("empty", "truncated", "text", "sound", "missing")),
        *(f"{how}.png" for how in ("empty", "truncated", "text", "clip", "missing")),
        *("no_frames", "damaged_frames"),
    ],
)
def test_a_damaged_file_says_why(real, name):
    verdict = verdicts_of(real[0])[name]
    assert verdict["readable"] is False
    assert len(verdict["why"]) > 10
    assert verdict["why"].split(":")[0] in real[1].unreadable


def test_a_name_with_a_colon_is_no_protocol(tmp_path, monkeypatch):
    from data_prep.media_worker import judge

    write_clip(tmp_path / "concat:1.mp4")
    monkeypatch.chdir(tmp_path)
    verdict = judge({"kind": "video", "path": "concat:1.mp4"})
    assert (verdict["readable"], verdict["frames"], verdict["width"], verdict["height"]) == (True, 24, 64, 48)


def test_a_file_is_judged_once_not_once_per_row(real):
    lines = real[0].with_suffix(".media.jsonl").read_text().splitlines()
    assert len(lines) == len({(r["kind"], r["path"]) for r in map(json.loads, lines)}) == real[1].files.total()


def test_the_reason_a_part_of_a_clip_is_no_part(real):
    assert unusable(real[0])["row-7"] == "no frame between 3.0 s and 3.0 s of 3.00 s"
    assert unusable(real[0])["row-8"] == "no frame between 2.0 s and 1.0 s of 3.00 s"
