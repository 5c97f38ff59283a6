"""The common ground of the converters: reading, paths, sampling, and output that is whole or not there."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from data_prep.common import command, reading
from data_prep.common.conversion import Conversion
from data_prep.common.fields import BadRow, checked_text, shown
from data_prep.common.media import MediaRoot
from data_prep.common.output_folder import BadOutput
from data_prep.common.reading import BadFile, read_rows
from data_prep.common.sampling import quotas, sample
from data_prep.common.schema import RL_SCHEMA, rl_row
from data_prep.common.sheet import keep_rows
from tests.unit.converted import ids_of, rejected_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


def read(data: bytes, name: str = "rows.json") -> list[tuple[int, Any]]:
    return list(read_rows(io.BytesIO(data), Path(name)))


@pytest.fixture(params=[1, 3, 64])
def small_chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(reading, "CHUNK", request.param)
    return request.param


class TestReading:
    @given(rows=st.lists(JSON, max_size=6), indent=st.sampled_from([None, 0, 2]), ascii_only=st.booleans())
    @pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
    def test_a_list_reads_as_json_does(self, rows: list[Any], indent: int | None, ascii_only: bool, chunk: int) -> None:
        data = json.dumps(rows, indent=indent, ensure_ascii=ascii_only).encode("utf-8")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reading, "CHUNK", chunk)
            found = read(data)
        assert [row for _, row in found] == json.loads(data)

    @given(rows=st.lists(JSON, max_size=6))
    def test_lines_read_as_json_does(self, rows: list[Any]) -> None:
        data = "\n\n".join(json.dumps(row) for row in rows).encode()
        assert read(data, "rows.jsonl") == [(2 * i + 1, row) for i, row in enumerate(rows)]

    @given(data=st.binary(max_size=60), name=st.sampled_from(["a.json", "a.jsonl"]))
    def test_no_bytes_at_all_raise_anything_else(self, data: bytes, name: str) -> None:
        try:
            read(data, name)
        except BadFile:
            assert name == "a.json"

    def test_a_row_knows_the_line_it_begins_in(self, small_chunks: int) -> None:
        assert read(b'\xef\xbb\xbf\n[\n{"a":\n 1},\n\n\n 2, 3\n]\n') == [(3, {"a": 1}), (7, 2), (7, 3)]

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"", "must be one JSON list of rows, but begins with ''"),
            (b'{"results": []}', "must be one JSON list of rows, but begins with '{\"results\": []}'"),
            (b"[\n1,\n", "line 3: is not JSON (Expecting value), in the row that begins in line 3"),
            (
                b'[\n{"a":\n "b',
                "line 3: is not JSON (Unterminated string starting at), in the row that begins in line 2",
            ),
            (b"[\n1\n2]", "line 3: expected a comma between rows, found '2'"),
            (b"[1", "line 1: expected a comma between rows, found ''"),
            (b"[1,]", "line 1: is not JSON (Expecting value)"),
            (b"[1]\n[2]", "line 2: something follows behind the list: '[2]'"),
            (b"[" * 100_000, "line 1: this row is nested too deeply"),
        ],
    )
    def test_a_list_that_breaks_off_is_refused_by_line(self, data: bytes, message: str) -> None:
        with pytest.raises(BadFile) as refused:
            read(data)
        assert message in str(refused.value)
        assert str(refused.value).startswith("rows.json")

    def test_a_row_without_end_is_given_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reading, "LONGEST_ROW", 1000)
        monkeypatch.setattr(reading, "CHUNK", 100)
        with pytest.raises(BadFile, match=r"line 1: is not JSON"):
            read(b'["' + b"a" * 5000 + b'"]')
        found = read(b"1\n" + b"2" * 2500 + b"\n3\n", "a.jsonl")
        assert [line for line, _ in found] == [1, 2, 3]
        assert [found[0][1], found[2][1]] == [1, 3]
        assert str(found[1][1]) == "(row): is longer than 1000 bytes"

    def test_a_key_twice_is_told(self) -> None:
        ((_, row),) = read(b'[{"a": 1, "b": 2, "a": 3}]')
        assert isinstance(row, BadRow)
        assert (row.field, row.reason) == ("a", "stands there twice")


class TestFields:
    @given(st.text())
    def test_a_checked_text_cannot_become_markup_of_a_prompt(self, text: str) -> None:
        try:
            checked_text(text, "problem")
        except BadRow:
            return
        text.encode()
        assert not any(mark in text for mark in ("<image>", "<video>", "<audio>", "<|im_end|>"))

    @given(JSON)
    def test_what_a_reason_shows_is_short_and_printable(self, value: Any) -> None:
        assert shown(value).isascii()
        assert shown(value).isprintable()
        assert len(shown(value)) < 120


class TestMediaRoot:
    @given(st.text(alphabet="ab./\\\0~", max_size=12))
    def test_no_path_leaves_root(self, relative: str) -> None:
        try:
            path = MediaRoot(Path("/data/root"), check_existence=False).path(relative, "path")
        except BadRow:
            return
        assert os.path.commonpath([path, "/data/root"]) == "/data/root"
        assert path != "/data/root"

    def test_a_sibling_whose_name_begins_alike_is_outside(self) -> None:
        with pytest.raises(BadRow, match="leaves ROOT"):
            MediaRoot(Path("/data/root"), check_existence=False).path("../root2/a.mp4", "path")


class TestSampling:
    @given(st.dictionaries(st.text(max_size=3), st.integers(1, 50), max_size=6), st.integers(1, 400))
    def test_quotas_are_the_mix(self, sizes: dict[str, int], count: int) -> None:
        total = sum(sizes.values())
        found = quotas(Counter(sizes), count)
        assert sum(found.values()) == min(count, total)
        for source, size in sizes.items():
            exact = size * min(count, total) / total
            assert found[source] <= size
            assert abs(found[source] - exact) < 1

    def test_remainders_go_to_the_largest(self) -> None:
        # 4 of 10: shares 2.4, 1.2, 0.4; two and one whole, the one left goes to a remainder of 0.4, a before c
        assert quotas(Counter(a=6, b=3, c=1), 4) == {"a": 3, "b": 1, "c": 0}

    @given(st.permutations(range(12)))
    def test_a_sample_does_not_depend_on_the_order(self, order: list[int]) -> None:
        keys = [("even" if i % 2 else "odd", str(i)) for i in order]
        chosen = {key for key, taken in zip(keys, sample(keys, 5, seed=3), strict=True) if taken}
        assert chosen == {
            key for key, taken in zip(sorted(keys), sample(sorted(keys), 5, seed=3), strict=True) if taken
        }


def build(row: Any, index: int) -> dict[str, Any]:
    if "id" not in row:
        raise BadRow("id", "is missing")
    return rl_row(data_source="made/up", text="?", ground_truth="A", id=row["id"], index=index, problem_type="OCR")


def convert(
    out: Path, numbered: Iterator[tuple[int, Any]] | list[tuple[int, Any]], dry_run: bool = False
) -> Conversion:
    with Conversion(out, {"seed": 0}, dry_run) as conversion:
        conversion.convert_rows("rows.json", numbered, "rows.parquet", RL_SCHEMA, build, ["id"], "id")
    return conversion


ROWS = [(1, {"id": "a"}), (2, {}), (3, BadRow("(row)", "is not JSON: x")), (4, {"id": "b", "new": 1})]


class TestOutput:
    def test_what_stands_there_in_the_end(self, tmp_path: Path) -> None:
        convert(tmp_path / "out", ROWS)
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
            "conversion.json",
            "noticed.jsonl",
            "rejected.jsonl",
            "rows.parquet",
        ]
        assert ids_of(tmp_path / "out", "rows") == ["a", "b"]
        assert rejected_of(tmp_path / "out") == [
            ("rows.json", 2, "id", "is missing"),
            ("rows.json", 3, "(row)", "is not JSON: x"),
        ]
        record = json.loads((tmp_path / "out" / "conversion.json").read_text())
        assert record["settings"] == {"seed": 0}
        assert record["files"] == {"rows.json": {"rows": 2, "rejected": 2, "not_sampled": 0}}

    @pytest.mark.parametrize("error", [KeyboardInterrupt, BadFile, MemoryError])
    def test_left_half_way_nothing_is_changed(self, tmp_path: Path, error: type[BaseException]) -> None:
        def breaks_off() -> Iterator[tuple[int, Any]]:
            yield from ROWS
            raise error

        with pytest.raises(error):
            convert(tmp_path / "new", breaks_off())
        assert list(tmp_path.iterdir()) == []
        convert(tmp_path / "out", ROWS)
        before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
        with pytest.raises(error):
            convert(tmp_path / "out", breaks_off())
        assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
        assert list(tmp_path.iterdir()) == [tmp_path / "out"]

    def test_an_earlier_conversion_is_replaced_whole(self, tmp_path: Path) -> None:
        with Conversion(tmp_path / "out", {}) as first:
            first.convert_rows("old.json", ROWS, "old.parquet", RL_SCHEMA, build, ["id"], "id")
        convert(tmp_path / "out", ROWS[:1])
        assert not (tmp_path / "out" / "old.parquet").exists()
        assert ids_of(tmp_path / "out", "rows") == ["a"]

    def test_what_no_conversion_wrote_is_never_replaced(self, tmp_path: Path) -> None:
        convert(tmp_path / "out", ROWS)
        (tmp_path / "out" / "thesis.txt").write_text("years of work")
        with pytest.raises(BadOutput, match=r"holds thesis\.txt, which no conversion wrote.*name another folder"):
            convert(tmp_path / "out", ROWS)
        assert (tmp_path / "out" / "thesis.txt").read_text() == "years of work"
        with pytest.raises(BadOutput, match="is a file"):
            convert(tmp_path / "out" / "thesis.txt", ROWS)

    def test_a_linked_output_folder_stays_a_link(self, tmp_path: Path) -> None:
        (tmp_path / "disk").mkdir()
        (tmp_path / "out").symlink_to(tmp_path / "disk")
        convert(tmp_path / "out", ROWS)
        assert (tmp_path / "out").is_symlink()
        assert ids_of(tmp_path / "disk", "rows") == ["a", "b"]

    def test_a_dry_run_rejects_the_same_and_writes_nothing(self, tmp_path: Path) -> None:
        dry, wet = convert(tmp_path / "out", ROWS, dry_run=True), convert(tmp_path / "wet", ROWS)
        assert dry.tallies == wet.tallies
        assert not (tmp_path / "out").exists()

    def test_the_summary_shows_hostile_names_as_they_are(self, tmp_path: Path) -> None:
        def hostile(row: Any, index: int) -> dict[str, Any]:
            return build(row, index) | {"data_source": "[red]\x1b[2J[/red]"}

        with Conversion(tmp_path / "out", {}) as conversion:
            conversion.convert_rows("rows.json", ROWS, "rows.parquet", RL_SCHEMA, hostile, [], "id")
        console = Console(record=True, width=200, file=io.StringIO())
        conversion.print_summary(console)
        text = console.export_text()
        assert r"[red]\x1b[2J[/red]" in text
        assert "'new' is not a field that this converter knows; its value is not used (1 rows, first in line 4)" in text
        assert "is not JSON" in text

    def test_more_rows_than_a_group(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("data_prep.common.sheet.ROW_GROUP", 3)
        convert(tmp_path / "out", [(i, {"id": str(i)}) for i in range(8)])
        assert ids_of(tmp_path / "out", "rows") == [str(i) for i in range(8)]


def test_keep_rows_writes_whole_or_not_at_all(tmp_path: Path) -> None:
    table = pa.table({"n": list(range(12))})
    pq.write_table(table, tmp_path / "all.parquet")
    assert keep_rows(tmp_path / "all.parquet", tmp_path / "even.parquet", (n % 2 == 0 for n in range(12))) == 6
    assert pq.read_table(tmp_path / "even.parquet")["n"].to_pylist() == [0, 2, 4, 6, 8, 10]
    with pytest.raises(ValueError, match="of 12 rows"):
        keep_rows(tmp_path / "all.parquet", tmp_path / "all.parquet", [True] * 3)
    assert pq.read_table(tmp_path / "all.parquet").equals(table)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.parquet", "even.parquet"]


class TestCommand:
    @pytest.mark.parametrize(
        ("error", "status", "told"),
        [
            (BadFile("rows.json, line 3: is not JSON"), 2, "rows.json, line 3: is not JSON\n"),
            (BadOutput("holds others"), 2, "holds others\n"),
            (FileNotFoundError("holds none of"), 2, "holds none of\n"),
            (KeyboardInterrupt(), 130, "interrupted: nothing was written\n"),
        ],
    )
    def test_no_traceback_for_bad_input(
        self, capsys: pytest.CaptureFixture[str], error: BaseException, status: int, told: str
    ) -> None:
        def fails() -> Conversion:
            raise error

        assert command.run(fails) == status
        assert capsys.readouterr() == ("", told)

    def test_the_command_itself(self, tmp_path: Path) -> None:
        (tmp_path / "Video-R1-260k.json").write_text("[{")
        line = [sys.executable, "-m", "data_prep.video_r1", str(tmp_path), "--out", str(tmp_path / "out")]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stderr.startswith("Video-R1-260k.json, line 1: is not JSON")
        assert "Traceback" not in done.stderr
        assert [path.name for path in tmp_path.iterdir()] == ["Video-R1-260k.json"]
