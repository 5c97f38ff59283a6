"""The folder of an evaluation: what is written is read back, and what is damaged is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.evaluated import a_row
from verl_care.evaluation.rows import Key, Measured, append_measures, append_rows, read_measures, read_rows


def test_rows_are_read_as_they_were_written_and_the_last_of_a_key_counts(tmp_path: Path) -> None:
    first, again = a_row("1", "wrong", settings="k"), a_row("1", "<answer>A</answer>", settings="k")
    failed = a_row("2", None, tags={"domain": "Work"})
    append_rows(tmp_path, [first, failed])
    append_rows(tmp_path, [again])
    assert read_rows(tmp_path) == [again, failed]


def test_measures_are_read_by_the_name_of_their_file(tmp_path: Path) -> None:
    known = Measured(Key("seed_bench_r1/L1", "1", 0), 0.5)
    unknown = Measured(Key("seed_bench_r1/L1", "2", 0), None, "no answer")
    append_measures(tmp_path, "likelihood-model", [known, unknown], reference="model")
    assert read_measures(tmp_path) == {"likelihood-model": {known.key: known, unknown.key: unknown}}


@pytest.mark.parametrize("line", ['{"id": "1"}', '{"dataset": "d", "id": "1", "sample": 0, "value": "much"}'])
def test_a_line_that_is_no_measure_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "measures" / "mine.jsonl"
    path.parent.mkdir()
    path.write_text('{"dataset": "d", "id": "0", "sample": 0, "value": 1}\n' + line + "\n")
    with pytest.raises(ValueError, match=r"mine.jsonl, line 2, is no measure"):
        read_measures(tmp_path)


def test_a_folder_without_answers_and_a_line_that_is_no_row_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"has no responses.jsonl"):
        read_rows(tmp_path)
    (tmp_path / "responses.jsonl").write_text('{"id": "1", "options": []}\n')
    with pytest.raises(ValueError, match=r"responses.jsonl, line 1, is no row"):
        read_rows(tmp_path)
