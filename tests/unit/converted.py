"""Reading back what a converter wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq


def rows_of(out: Path, name: str) -> list[dict[str, Any]]:
    return pq.read_table(out / f"{name}.parquet").to_pylist()


def ids_of(out: Path, name: str) -> list[str]:
    return [row["extra_info"]["id"] for row in rows_of(out, name)]


def rejected_of(out: Path) -> list[tuple[str, int, str, str]]:
    """(file, line, field, reason) of each rejected row."""
    records = [json.loads(line) for line in (out / "rejected.jsonl").read_text().splitlines()]
    assert all(record.keys() == {"file", "line", "field", "reason"} for record in records)
    return [(r["file"], r["line"], r["field"], r["reason"]) for r in records]
