"""Media checks with decoders that misbehave: verdicts kept over interruptions, rows, and what the command says."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.check_media import check, main
from data_prep.common.conversion import Conversion
from data_prep.common.fields import BadRow
from data_prep.media_verdicts import Busy, MediaFile, Use, Verdict, VerdictList, stamp_of, uses_of
from tests.unit.media_rows import kept_ids, unusable, write_rows
from verl_care.data.budget import Stretch

FAKE = "tests.unit.hostile_helper"


# A fake decoder, which does what the file's name says


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("HOSTILE_HELPER_LOG", str(tmp_path / "asked"))
    for name in ("a", "b", "c", "hang", "crash", "exit", "raise", "print"):
        (tmp_path / f"{name}.mp4").write_text(name)
    return tmp_path


def asked(folder: Path) -> list[str]:
    """The files that were decoded since the last time."""
    log = folder / "asked"
    names = log.read_text().split() if log.exists() else []
    log.unlink(missing_ok=True)
    return names


def test_a_decoder_that_hangs_or_dies_costs_its_own_file_only(folder):
    names = ["a", "hang", "b", "crash", "exit", "raise", "print", "c"]
    parquet = write_rows(folder / "rows.parquet", *[{"videos": [folder / f"{name}.mp4"]} for name in names])
    report = check(parquet, jobs=2, seconds=0.5, worker=FAKE)
    assert kept_ids(parquet) == ["row-0", "row-2", "row-6", "row-7"]
    assert unusable(parquet)["row-1"] == "timed out: not decoded in 0.5 s"
    assert unusable(parquet)["row-3"] == "decoder died: SIGSEGV"
    assert unusable(parquet)["row-4"] == "decoder died: exit status 3"
    assert unusable(parquet)["row-5"].startswith("decoder died: exit status 1: KeyError")
    assert report.unreadable == {"timed out": 1, "decoder died": 3}


def test_a_second_check_decodes_nothing(folder):
    parquet = write_rows(folder / "rows.parquet", {"videos": [folder / "a.mp4"]}, {"videos": [folder / "crash.mp4"]})
    check(parquet, 1, 5, worker=FAKE)
    assert sorted(set(asked(folder))) == ["a", "crash"]
    report = check(parquet, 1, 5, worker=FAKE)
    assert asked(folder) == []
    assert (report.known, report.unusable_rows) == (2, 1)


def test_what_changed_is_judged_again(folder):
    names = ["a", "b", "missing"]
    parquet = write_rows(folder / "rows.parquet", *[{"videos": [folder / f"{name}.mp4"]} for name in names])
    check(parquet, 1, 5, worker=FAKE)
    asked(folder)
    (folder / "a.mp4").write_text("longer than it was")
    os.utime(folder / "b.mp4", ns=(1, 1))
    (folder / "missing.mp4").touch()
    report = check(parquet, 1, 5, worker=FAKE)
    assert sorted(asked(folder)) == ["a", "b", "missing"]
    assert (report.known, report.unusable_rows) == (0, 0)


def test_a_deleted_file_is_noticed(folder):
    parquet = write_rows(folder / "rows.parquet", {"videos": [folder / "a.mp4"]})
    check(parquet, 1, 5, worker=FAKE)
    (folder / "a.mp4").unlink()
    assert check(parquet, 1, 5, worker=FAKE).unusable_rows == 1


def test_what_timed_out_is_judged_again_with_more_time_only(folder):
    parquet = write_rows(folder / "rows.parquet", {"videos": [folder / "hang.mp4"]})
    check(parquet, 1, 0.2, worker=FAKE)
    assert asked(folder) == ["hang"]
    check(parquet, 1, 0.2, worker=FAKE)
    assert asked(folder) == []
    check(parquet, 1, 0.3, worker=FAKE)
    assert asked(folder) == ["hang"]


def test_a_dry_run_counts_and_writes_nothing(folder):
    parquet = write_rows(folder / "rows.parquet", {"videos": [folder / "a.mp4"]}, {"videos": [folder / "b.mp4"]})
    report = check(parquet, 1, 5, dry_run=True, worker=FAKE)
    assert (report.files, report.known) == ({"video": 2}, 0)
    assert asked(folder) == []
    assert sorted(path.name for path in folder.glob("rows*")) == ["rows.parquet"]


@pytest.mark.parametrize("end", [b'{"kind": "video", "pa', b"\xff\xfe", b"null\n", b'{"kind": 3}\n', b"\n"])
def test_a_line_that_was_cut_off_is_counted_and_its_file_judged_again(folder, end):
    rows = [{"videos": [folder / f"{name}.mp4"]} for name in ("a", "b")]
    parquet = write_rows(folder / "rows.parquet", *rows)
    check(parquet, 1, 5, worker=FAKE)
    asked(folder)
    log = parquet.with_suffix(".media.jsonl")
    first, _ = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(first + end)
    report = check(parquet, 1, 5, worker=FAKE)
    assert (report.damaged_lines, report.known) == (1, 1)
    assert len(asked(folder)) == 1
    assert len(kept_ids(parquet)) == 2
    if not end.endswith(b"\n"):  # the half line is gone, and what follows it is whole
        assert check(parquet, 1, 5, worker=FAKE).damaged_lines == 0


def test_two_checks_of_one_file_do_not_write_into_each_other(folder):
    parquet = write_rows(folder / "rows.parquet", {"videos": [folder / "a.mp4"]})
    with VerdictList(parquet.with_suffix(".media.jsonl")), pytest.raises(Busy, match=r"rows\.media\.jsonl"):
        check(parquet, 1, 5, worker=FAKE)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_interrupted_in_the_middle_it_goes_on_where_it_was(folder, how):
    slow = folder / "many"
    slow.mkdir()
    files = [slow / str(number) / "slow.mp4" for number in range(30)]  # 0.2 s each
    for file in files:
        file.parent.mkdir()
        file.touch()
    parquet = write_rows(folder / "rows.parquet", *[{"videos": [file]} for file in files])
    program = f"import sys, data_prep.check_media as c; c.Judges.__init__.__defaults__ = ({FAKE!r},)\n" + (
        # a shell that starts the tests in the background has them ignore it
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        f"c.check.__defaults__ = (False, {FAKE!r}, None); sys.argv = ['', {str(parquet)!r}, '--jobs', '2']; "
        "sys.exit(c.main())"
    )
    running = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    log = parquet.with_suffix(".media.jsonl")
    while not log.exists() or log.read_bytes().count(b"\n") < 3:
        assert running.poll() is None, running.communicate()[1]
        time.sleep(0.02)
    helpers = psutil.Process(running.pid).children()
    running.send_signal(how)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL)
    assert "Traceback" not in errors
    psutil.wait_procs(helpers, timeout=60)
    assert not any(helper.is_running() and helper.status() != psutil.STATUS_ZOMBIE for helper in helpers)
    assert not parquet.with_suffix(".checked.parquet").exists()
    done = len(VerdictList(log)._verdicts)
    assert 3 <= done < 30
    asked(folder)
    report = check(parquet, 2, 5, worker=FAKE)
    assert report.known == done
    assert len(asked(folder)) == 30 - done
    assert len(kept_ids(parquet)) == 30


def test_a_new_conversion_keeps_the_verdicts_and_nothing_that_is_stale(folder):
    out = folder / "out"
    with Conversion(out, {}) as conversion:
        conversion.keep_file("rows.parquet", write_rows(folder / "r", {"videos": [folder / "a.mp4"]}).read_bytes())
    check(out / "rows.parquet", 1, 5, worker=FAKE)
    with Conversion(out, {}) as conversion:
        conversion.keep_file("rows.parquet", (folder / "r").read_bytes())
    names = {path.name for path in out.iterdir()}
    assert "rows.media.jsonl" in names
    assert not {"rows.checked.parquet", "rows.unusable.jsonl"} & names
    assert check(out / "rows.parquet", 1, 5, worker=FAKE).known == 1


# Rows


def test_what_a_row_may_show(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.chdir("/")
    row = {
        "videos": [
            "a.mp4",
            {"video": "/b.mp4", "video_start": 1.0, "video_end": 2.0, "raw_fps": None},
            {"video": "file:///frames", "raw_fps": 3.0},
            {"video": ["/1.png", "/2.png"]},
            {"path": "~/c.mp4"},
        ],
        "images": ["/a.png", {"image": "/b.png"}],
    }
    assert list(uses_of(row)) == [
        Use("videos", MediaFile("video", "/a.mp4")),
        Use("videos", MediaFile("video", "/b.mp4"), Stretch(1.0, 2.0)),
        Use("videos", MediaFile("video", "/frames"), Stretch(None, None), 3.0),
        Use("videos", MediaFile("image", "/1.png")),
        Use("videos", MediaFile("image", "/2.png")),
        Use("videos", MediaFile("video", "/home/me/c.mp4")),
        Use("images", MediaFile("image", "/a.png")),
        Use("images", MediaFile("image", "/b.png")),
    ]
    assert list(uses_of({"videos": None})) == []


@pytest.mark.parametrize("name", ["file://{}/a.mp4", "~/a.mp4", "{}/./a.mp4"])
def test_a_file_is_there_under_every_name_that_training_takes(folder, monkeypatch, name):
    monkeypatch.setenv("HOME", str(folder))
    parquet = write_rows(folder / "rows.parquet", {"videos": [name.format(folder)]})
    assert check(parquet, 1, 5, worker=FAKE).unusable_rows == 0
    assert asked(folder) == ["a"]


@pytest.mark.parametrize(
    ("seconds", "rate", "start", "end", "reason"),
    [
        # 250 frames at 25 a second: 10 s, the last begins at 9.96 s
        (10.0, 2.0, 9.95, None, None),
        (10.0, 2.0, 9.99, None, "no frame between 9.99 s and 10.0 s of 10.00 s"),
        (10.0, 2.0, 0.01, 0.03, "no frame between 0.01 s and 0.03 s of 10.00 s"),
        (10.0, 2.0, 0.01, 0.05, None),
        (10.0, 2.0, 4.0, 3.0, "no frame between 4.0 s and 3.0 s of 10.00 s"),
        # a folder of frames, whose rate the row names: 250 frames at 2 a second are 125 s
        (None, 2.0, 124.5, None, None),
        (None, 2.0, 125.0, None, "no frame between 125.0 s and 125.0 s of 125.00 s"),
        (None, 25.0, 124.5, None, "no frame between 124.5 s and 10.0 s of 10.00 s"),
    ],
)
def test_a_part_without_a_frame_is_what_training_says_it_is(seconds, rate, start, end, reason):
    clip = MediaFile("video", "/a.mp4")
    verdict = Verdict(*clip, 1, 1, True, 250, seconds, 64, 48, None, None)
    assert verdict.objection(Use("videos", clip, Stretch(start, end), rate)) == reason


@pytest.mark.parametrize(
    ("about", "reason"),
    [
        ({"video": ["/1.png", "/2.png"], "video_start": 0.6}, "no frame between 0.6 s and 1.0 s of 1.00 s"),
        ({"video": "/a.mp4", "video_start": "now"}, "video_start='now' is no number"),
        ({"video": "/a.mp4", "raw_fps": 0.0}, "raw_fps=0.0, not above 0"),
    ],
)
def test_a_part_that_no_clip_has(about, reason):
    with pytest.raises(BadRow, match=f"^videos: must show a part of a clip: .*{re.escape(reason)}"):
        list(uses_of({"videos": [about]}))


@pytest.mark.parametrize(
    "value", ["a.mp4", 3, [None], [""], ["a\0b"], [{"video": None}], [{}], [{"video": []}], [[]], [{"video": [3]}]]
)
def test_a_row_that_shows_something_else_is_named(value):
    with pytest.raises(BadRow, match=r"^videos: must"):
        list(uses_of({"videos": value}))


def test_such_a_row_is_left_out(folder):
    parquet = folder / "rows.parquet"
    pq.write_table(pa.table({"images": pa.array([["a.png"], None, [None]]), "note": ["x", "y", "z"]}), parquet)
    check(parquet, 1, 5, worker=FAKE)
    (folder / "a.png").touch()
    assert pq.read_table(parquet.with_suffix(".checked.parquet")).to_pylist() == [{"images": None, "note": "y"}]
    records = [json.loads(line) for line in parquet.with_suffix(".unusable.jsonl").read_text().splitlines()]
    assert [(r["row"], r["field"]) for r in records] == [(0, "images"), (2, "images")]


def test_the_stamp_of_a_folder_changes_with_what_is_in_it(folder):
    frames = folder / "frames"
    frames.mkdir()
    (frames / "1.png").write_text("one")
    before = stamp_of(str(frames))
    (frames / "1.png").write_text("other")
    assert stamp_of(str(frames)) != before
    assert stamp_of(str(folder / "nothing")) is None


# The command


def run_main(monkeypatch, capsys, *arguments: object) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["check_media", *map(str, arguments)])
    status = main()
    output = capsys.readouterr()
    return status, output.out, output.err


@pytest.mark.parametrize("kind", ["missing", "text", "empty", "folder", "no media"])
def test_bad_input_is_one_line_and_no_traceback(folder, monkeypatch, capsys, kind):
    parquet = folder / "rows.parquet"
    if kind == "text":
        parquet.write_text("no parquet")
    elif kind == "empty":
        parquet.touch()
    elif kind == "folder":
        parquet.mkdir()
    elif kind == "no media":
        pq.write_table(pa.table({"note": ["x"]}), parquet)
    status, _, errors = run_main(monkeypatch, capsys, parquet)
    assert status == 2
    assert errors.startswith(f"{parquet}: ")
    assert errors.count("\n") == 1


def test_what_the_command_says(folder, monkeypatch, capsys):
    parquet = write_rows(folder / "rows.parquet", {"videos": [folder / "missing.mp4"]}, {})
    status, said, _ = run_main(monkeypatch, capsys, parquet, "--dry-run")
    assert (status, said) == (0, "rows: 2\nfiles: 1 video; judged before: 0\ndry run: to judge: 1; nothing written\n")
    status, said, _ = run_main(monkeypatch, capsys, parquet)
    assert (status, said) == (
        0,
        "rows: 2\nfiles: 1 video; judged before: 0\n"
        "not readable: 1: does not exist, or cannot be opened\n"
        f"usable rows: 1, in {folder / 'rows.checked.parquet'}\n"
        f"unusable rows: 1, in {folder / 'rows.unusable.jsonl'}\n",
    )
