"""`python -m verl_care.report`: where the page goes, and what a user hears who named something else."""

from __future__ import annotations

import json

import pytest

from verl_care.report import __main__ as command


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
