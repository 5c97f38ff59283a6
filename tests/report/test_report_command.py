"""`python -m verl_care.report`: where the page goes, and what a user hears who named something else."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.common.schema import RL_SCHEMA, rl_row, video_entry
from tests.unit.clips import write_clip
from tests.unit.evaluated import a_row, answered
from verl_care.evaluation.rows import append_rows
from verl_care.report import __main__ as command
from verl_care.report import serve


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    lines = [{"step": step, "data": {"care/accuracy": 0.25 * step}} for step in (1, 2)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_the_page_lies_in_the_run_and_its_place_and_size_are_said(run, capsys):
    assert command.main([str(run)]) == 0
    page = run / "report.html"
    assert b"care/accuracy" in page.read_bytes()
    assert capsys.readouterr().out == f"page       {page} ({page.stat().st_size / 1e6:.1f} MB)\n"


def test_out_says_where_else(run, tmp_path):
    assert command.main([str(run), "--out", str(tmp_path / "a" / "b.html")]) == 0
    assert (tmp_path / "a" / "b.html").exists()
    assert not (run / "report.html").exists()


def test_what_is_no_run_is_said(tmp_path, capsys):
    assert command.main([str(tmp_path / "nothing")]) == 2
    error = capsys.readouterr().err
    assert str(tmp_path / "nothing") in error
    assert "metrics" in error
    assert "Traceback" not in error


@pytest.mark.parametrize("port", ["-1", "65536", "runs/x", "²", ""])
def test_a_port_that_is_none(run, capsys, port):
    with pytest.raises(SystemExit) as stopped:
        command.main([str(run), f"--serve={port}"])
    assert stopped.value.code == 2
    assert "name RUN before --serve" in capsys.readouterr().err


@pytest.fixture
def evaluated(tmp_path):
    """The folder of an evaluation, and the file with its question, which has a clip."""
    folder, data = tmp_path / "evaluated", tmp_path / "L1.parquet"
    folder.mkdir()
    append_rows(folder, [a_row("7", answered("A"))])
    clip = video_entry(write_clip(tmp_path / "a.mp4"))
    row = rl_row(data_source="seed_bench_r1/L1", text="What next?", ground_truth="A", id="7", videos=[clip])
    pq.write_table(pa.Table.from_pylist([row], RL_SCHEMA), data)
    return folder, data


def test_data_has_the_clips_of_an_evaluation(evaluated):
    folder, data = evaluated
    assert command.main([str(folder)]) == 0
    assert b"data:image/webp" not in (folder / "report.html").read_bytes()
    assert command.main([str(folder), "--data", str(data)]) == 0
    assert b"data:image/webp" in (folder / "report.html").read_bytes()


def test_a_live_page_has_them_too(evaluated, monkeypatch):
    folder, data = evaluated
    served = []
    monkeypatch.setattr(serve, "serve", lambda source, port: served.append(source.payload()))
    assert command.main([str(folder), "--serve", "--data", str(data)]) == 0
    assert [len(question["clips"][0]["frames"]) for question in served[0]["questions"]] == [6]


def test_data_that_is_no_file(run, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        command.main([str(run), "--data", str(tmp_path / "gone.parquet")])
    assert stopped.value.code == 2
    assert "gone.parquet' is no file" in capsys.readouterr().err
