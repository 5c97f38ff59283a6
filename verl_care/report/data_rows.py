"""The rows of the data that a run was validated on: verl's dumps name a question by its id and keep nothing else."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from verl_care.data.marks import Columns
from verl_care.records.groups import Record, question_record

Name = tuple[str, str]
"""(data source, id) of a question."""
_FIELDS = ("data_source", "reward_model", "extra_info")


def find(files: Iterable[Path], wanted: Collection[Name], columns: Columns) -> tuple[dict[Name, Record], list[str]]:
    """(what a group's record says of a question, for those that were found; what could not be read, and why)."""
    found: dict[Name, Record] = {}
    problems: list[str] = []
    for path in files:
        try:
            for row in _rows(path, columns):
                row_id = (row.get("extra_info") or {}).get("id")
                if row_id in (None, ""):  # it could be any of the questions without an id
                    continue
                name = (str(row.get("data_source")), str(row_id))
                if name in wanted and name not in found:
                    found[name] = _record(row, columns)
        except (OSError, pa.ArrowException, TypeError, AttributeError, KeyError) as error:
            problems.append(f"{path}: {error}; its questions have neither clip nor options here")
    return found, problems


def _rows(path: Path, columns: Columns) -> Iterator[dict[str, Any]]:
    with pq.ParquetFile(path) as file:
        names = [name for name in (*_FIELDS, *columns) if name in file.schema_arrow.names]
        for batch in file.iter_batches(batch_size=1024, columns=names):
            yield from batch.to_pylist()


def _record(row: dict[str, Any], columns: Columns) -> Record:
    """verl puts a row's clips and images in the places of their marks; here they stand in front of the text."""
    media = [{"type": "video", **video} for video in row.get(columns.video) or ()]
    media += [{"type": "image", **image} for image in row.get(columns.image) or ()]
    text = "".join(str(message["content"]) for message in row[columns.prompt] if message.get("role") == "user")
    for mark in ("<video>", "<image>"):
        text = text.replace(mark, "")
    prompt = [{"role": "user", "content": [*media, {"type": "text", "text": text}]}]
    return question_record({**row, "raw_prompt": prompt}, None)
