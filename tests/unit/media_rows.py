"""Parquet files of rows with media, and what a check of them leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

VIDEO = pa.struct([("video", pa.string()), ("video_start", pa.float64()), ("video_end", pa.float64())])


def write_rows(path: Path, *rows: dict[str, Any]) -> Path:
    schema = pa.schema(
        [
            ("videos", pa.list_(VIDEO)),
            ("images", pa.list_(pa.struct([("image", pa.string())]))),
            ("extra_info", pa.struct([("id", pa.string()), ("index", pa.int64())])),
        ]
    )
    whole = [
        {
            "videos": [video if isinstance(video, dict) else {"video": str(video)} for video in row.get("videos", [])],
            "images": [{"image": str(image)} for image in row.get("images", [])],
            "extra_info": {"id": f"row-{number}", "index": number},
        }
        for number, row in enumerate(rows)
    ]
    pq.write_table(pa.Table.from_pylist(whole, schema=schema), path)
    return path


def verdicts_of(parquet: Path) -> dict[str, dict[str, Any]]:
    lines = parquet.with_suffix(".media.jsonl").read_text().splitlines()
    return {Path(record["path"]).name: record for record in map(json.loads, lines)}


def kept_ids(parquet: Path) -> list[str]:
    return [r["extra_info"]["id"] for r in pq.read_table(parquet.with_suffix(".checked.parquet")).to_pylist()]


def unusable(parquet: Path) -> dict[str, str]:
    lines = parquet.with_suffix(".unusable.jsonl").read_text().splitlines()
    return {record["id"]: record["reason"] for record in map(json.loads, lines)}
