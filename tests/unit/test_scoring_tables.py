"""The tables, what hostile text may do to them, and the two commands."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path

import pytest

from tests.unit.evaluated import a_row, answered
from verl_care.evaluation.__main__ import main
from verl_care.evaluation.rows import Measured, append_measures, append_rows
from verl_care.evaluation.scoring.intervals import Estimate
from verl_care.evaluation.scoring.tables import Table, as_csv, as_markdown, as_text, flattened, printable, shown

HOSTILE = "[red]x[/] :smile: a|b\n\x1b[31m\u202e<script>`*_"


def test_cells():
    assert [shown(cell) for cell in (None, 3, 0.5, 1.0, "a")] == ["-", "3", "50.0", "100.0", "a"]
    assert shown(Estimate(0.5, 0.4, 0.625)) == "50.0 [40.0, 62.5]"


def test_hostile_text_is_shown_and_does_nothing():
    assert printable("a\nb\x1b\u202e\u2028\ud800") == "a\\nb\\x1b\\u202e\\u2028\\ud800"
    assert len(printable("x" * 10_000)) < 200
    table = Table(HOSTILE, ("", HOSTILE), [(HOSTILE, 0.5)], (HOSTILE,))
    text = as_text([table])
    assert text.count("[red]x[/] :smile: a|b\\n") == 4
    assert not {"\x1b", "\u202e"} & set(text)
    markdown = as_markdown([table])
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len(rows) == 3
    assert all(line.replace("\\|", "").count("|") == 3 for line in rows)
    assert "<script" not in markdown.replace("\\<", "")
    assert "\\[red\\]" in markdown


def test_markdown_keeps_an_indent():
    assert "| \u00a0\u00a0a | 50.0 |" in as_markdown([Table("t", ("", "x"), [("  a", 0.5)])])


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", " =1", "\t=1"])
def test_no_cell_is_a_formula(text):
    (_, (cell, number)) = csv.reader(io.StringIO(as_csv([{"name": text, "n": -0.5}])))
    assert cell[0] not in "=+-@"
    assert cell.startswith(("'", "\\t"))
    assert number == "-0.5"
    (head, _) = csv.reader(io.StringIO(as_csv([{text: 1}])))
    assert head[0][0] not in "=+-@"


def test_csv_has_one_line_a_record_and_every_column():
    records = [{"a": {"x": 1, "y": None}, "b": None}, {"a": {"x": 2, "y": 3}, "b": {"z": 4}, "c": "p,q\nr"}]
    assert flattened(records[1]) == {"a.x": 2, "a.y": 3, "b.z": 4, "c": "p,q\nr"}
    head, first, second = csv.reader(io.StringIO(as_csv(records)))
    assert head == ["a.x", "a.y", "b.z", "c"]
    assert first == ["1", "", "", ""]
    assert second == ["2", "3", "4", "p,q\\nr"]


# The commands


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    for name, letters in (("one", "AAAB"), ("two", "AABB")):
        rows = [a_row(str(n), answered(letter), tags={"domain": HOSTILE[n:]}) for n, letter in enumerate(letters)]
        rows.append(a_row("lost", None, failure=HOSTILE))
        append_rows(tmp_path / name, rows)
        append_measures(tmp_path / name, "contradiction", [Measured(rows[0].key, 1.0), Measured(rows[1].key, None)])
    return tmp_path / "one", tmp_path / "two"


def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["evaluation", *map(str, arguments), "--resamples", "100"])
    code = main()
    out, err = capsys.readouterr()
    return code, out + err


def test_score_in_four_formats(runs, capsys, monkeypatch):
    code, text = call(capsys, monkeypatch, "score", runs[0])
    assert code == 0
    assert "60.0 [" in text  # 3 of 5, the failure counted
    assert "missing responses" in text
    assert "contradiction" in text
    assert "\x1b" not in text
    for arguments in (
        ["--format", "markdown"],
        ["--format", "csv"],
        ["--layout", "published"],
        ["--parser", "lenient"],
    ):
        code, text = call(capsys, monkeypatch, "score", *runs, *arguments)
        assert code == 0
        assert "one" in text
        assert "two" in text
    code, text = call(capsys, monkeypatch, "score", *runs, "--format", "json")
    found = json.loads(text)
    assert [run["run"] for run in found["runs"]] == ["one", "two"]
    assert found["runs"][0]["groups"][0]["accuracy"]["exact"]["mean"] == pytest.approx(0.6)
    assert found["runs"][0]["released_totals"]["seed_bench_r1/L1"]["mean_acc"] == pytest.approx(0.6)
    assert found["runs"][0]["missing"] == [{"reason": HOSTILE, "responses": 1}]


def test_as_released_and_one_rule_of_it_changed(runs, capsys, monkeypatch):
    # The failure is the fifth row, alone in its batch: 3 of 4.
    _, text = call(capsys, monkeypatch, "score", runs[0], "--as-released", "--format", "json")
    found = json.loads(text)
    assert found["rules"]["failures"] == "drop_batches"
    assert found["rules"]["open_answers"] == "zero"
    assert found["runs"][0]["groups"][0]["accuracy"]["exact"]["mean"] == 0.75
    assert found["runs"][0]["rows_left_out"] == 1
    _, text = call(capsys, monkeypatch, "score", runs[0], "--as-released", "--failures", "count")
    assert "60.0 [" in text
    _, text = call(capsys, monkeypatch, "score", runs[0], "--failures", "drop")
    assert "1 rows are left out" in text


def test_compare_names_questions_and_settings(runs, capsys, monkeypatch):
    append_rows(runs[1], [a_row("late", answered("A"))])
    (runs[0] / "settings.json").write_text('{"frames": 16, "model": {"path": "x"}}')
    (runs[1] / "settings.json").write_text('{"frames": 32, "model": {"path": "x"}}')
    code, text = call(capsys, monkeypatch, "compare", *runs)
    assert code == 0
    assert "-20.0 [" in text
    assert "only in B" in text
    assert "seed_bench_r1/L1 late" in text
    assert "frames" in text
    assert "model.path" not in text
    for arguments in (["--format", "markdown"], ["--format", "csv"]):
        assert call(capsys, monkeypatch, "compare", *runs, *arguments)[0] == 0
    found = json.loads(call(capsys, monkeypatch, "compare", *runs, "--format", "json")[1])
    assert found["only_b"] == [["seed_bench_r1/L1", "late"]]
    assert found["settings"] == [{"setting": "frames", "a": "16", "b": "32"}]


def test_the_papers_rows_are_marked(runs, capsys, monkeypatch):
    _, text = call(capsys, monkeypatch, "score", runs[0], "--layout", "published", "--with-published")
    (care,) = [line for line in text.splitlines() if line.split()[:1] == ["CARE"]]
    assert care.endswith("the paper")
    assert "GRPO" not in call(capsys, monkeypatch, "score", runs[0], "--layout", "published")[1]
    _, text = call(capsys, monkeypatch, "score", *runs, "--layout", "published", "--with-published", "--format", "json")
    figures = json.loads(text)["figures"]
    assert {figure["method"] for figure in figures if not figure["published"]} == {"one", "two"}
    assert all(figure["source"].startswith("arXiv 2506.16141v1") for figure in figures if figure["published"])


def test_out_is_a_file(runs, capsys, monkeypatch, tmp_path):
    out = tmp_path / "new" / "scores.md"
    _, text = call(capsys, monkeypatch, "score", runs[0], "--format", "markdown", "--out", out)
    assert text == f"written to {out}\n"
    assert out.read_text().startswith("### one: accuracy")


def test_what_cannot_be_done_is_said(runs, capsys, monkeypatch, tmp_path):
    def refused(*arguments: object) -> str:
        code, text = call(capsys, monkeypatch, *arguments)
        assert code == 2
        return text

    assert "care_evaluate" in refused("score", tmp_path)
    assert "--layout published" in refused("score", runs[0], "--with-published")
    assert "a seed from 0 on" in refused("score", runs[0], "--seed", "-1")
    assert "there are dataset, domain" in refused("score", runs[0], "--by", "domian")
    append_rows(tmp_path / "other", [a_row("x", None, dataset="zoo")])
    assert "share no question" in refused("compare", runs[0], tmp_path / "other")
    assert "SEED-Bench-R1" in refused("score", tmp_path / "other", "--layout", "published")
    assert "1 rows are failures" in refused("score", tmp_path / "other", "--failures", "drop")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "responses.jsonl").write_text("")
    assert "no rows" in refused("score", tmp_path / "empty")


def test_runs_of_one_name_are_told_apart(runs, capsys, monkeypatch, tmp_path):
    append_rows(tmp_path / "deeper" / "one", [a_row("0", answered("A"))])
    _, text = call(capsys, monkeypatch, "score", runs[0], tmp_path / "deeper" / "one", "--format", "csv")
    assert {line[0] for line in csv.reader(io.StringIO(text))} == {
        "run",
        str(runs[0]),
        str(tmp_path / "deeper" / "one"),
    }
