"""Files of JSON lines: appended, read while they grow, mended after a crash."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verl_care.records import jsonl

NAMES = ("rows.jsonl", "rows.jsonl.zst")


@pytest.mark.parametrize("name", NAMES)
def test_what_was_appended_is_read_in_order(tmp_path: Path, name: str) -> None:
    path = tmp_path / "new folder" / name
    jsonl.append(path, [{"n": 1, "text": "é\n\u2028</script>"}, {"n": 2}])
    jsonl.append(path, [])
    jsonl.append(path, [{"n": 3}])
    assert [row["n"] for row in jsonl.read(path)] == [1, 2, 3]
    assert next(jsonl.read(path))["text"] == "é\n\u2028</script>"


@pytest.mark.parametrize("name", NAMES)
@given(cut=st.integers(1, 40))
def test_a_cut_end_costs_itself_and_nothing_else(tmp_path_factory: pytest.TempPathFactory, name: str, cut: int) -> None:
    path = tmp_path_factory.mktemp("cut") / name
    jsonl.append(path, [{"n": 1}])
    whole = path.stat().st_size
    jsonl.append(path, [{"n": 2, "text": "x" * 9}])
    with path.open("r+b") as file:
        kept = max(whole, path.stat().st_size - cut)
        file.truncate(kept)
    assert [row["n"] for row in jsonl.read(path)] == [1]
    assert jsonl.mend(path) == kept - whole
    assert path.stat().st_size == whole
    jsonl.append(path, [{"n": 3}])
    assert [row["n"] for row in jsonl.read(path)] == [1, 3]
    assert jsonl.mend(path) == 0


def test_zeros_at_the_end_cost_nothing(tmp_path: Path) -> None:
    """A power cut leaves them: the file's new length was written, and its content was not."""
    path = tmp_path / "rows.jsonl.zst"
    jsonl.append(path, [{"n": 1}])
    whole = path.read_bytes()
    path.write_bytes(whole + bytes(64))
    assert [row["n"] for row in jsonl.read(path)] == [1]
    assert jsonl.mend(path) == 64
    assert path.read_bytes() == whole


def test_zeros_before_other_frames_are_named_and_stay(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.zst"
    jsonl.append(path, [{"n": 1}])
    frame = path.read_bytes()
    path.write_bytes(frame + bytes(64) + frame)
    for look in (lambda: list(jsonl.read(path)), lambda: jsonl.mend(path)):
        with pytest.raises(jsonl.Damaged, match=r"rows.jsonl.zst is damaged .*, and not at its end: move it away"):
            look()
    assert path.read_bytes() == frame + bytes(64) + frame


def test_damage_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"n": 1}\n{"n": \n{"n": 3}\n')
    with pytest.raises(ValueError, match=r"rows.jsonl, line 2, is no JSON"):
        list(jsonl.read(path))
    path.write_text("[1]\n")
    with pytest.raises(ValueError, match="is list and no JSON object"):
        list(jsonl.read(path))


def test_not_a_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        jsonl.append(tmp_path / "rows.jsonl", [{"n": float("nan")}])
