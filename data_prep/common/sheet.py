"""Files of rows, written while rows come in: parquet, and JSON lines."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

ROW_GROUP = 5_000  # rows; what is in memory at a time


class Sheet:
    """A parquet file that is written while rows come in; `path` None: the rows are checked against the schema only."""

    def __init__(self, path: Path | None, schema: pa.Schema) -> None:
        self._schema, self._rows = schema, []
        self._writer = pq.ParquetWriter(path, schema) if path else None

    def __enter__(self) -> Sheet:
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        if self._writer:
            self._writer.close()

    def add(self, row: dict[str, Any]) -> None:
        self._rows.append(row)
        if len(self._rows) == ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        batch, self._rows = pa.RecordBatch.from_pylist(self._rows, schema=self._schema), []
        if self._writer and batch.num_rows:
            self._writer.write_batch(batch)


def keep_rows(source: Path, target: Path, kept: Iterable[bool]) -> int:
    """Copy the rows of a parquet file that `kept` says, row group by row group; returns how many.

    `target` is written whole or not at all, and may be `source`.

    Raises:
        ValueError: if `kept` ends before the rows do.
    """
    partial = target.with_name(target.name + ".partial")
    file, mask, rows = pq.ParquetFile(source), iter(kept), 0
    try:
        with pq.ParquetWriter(partial, file.schema_arrow) as writer:
            for batch in file.iter_batches(batch_size=ROW_GROUP):
                chosen = list(itertools.islice(mask, batch.num_rows))
                if len(chosen) < batch.num_rows:
                    raise ValueError(f"a verdict is missing for some of {file.metadata.num_rows} rows of {source}")
                batch = batch.filter(pa.array(chosen, pa.bool_()))
                rows += batch.num_rows
                if batch.num_rows:
                    writer.write_batch(batch)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    return rows


class Lines:
    """Appends JSON lines to a file, or nowhere."""

    def __init__(self, path: Path | None) -> None:
        self._file = path.open("a", encoding="utf-8") if path else None

    def __enter__(self) -> Callable[[Mapping[str, Any]], None]:
        return self._write

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()

    def _write(self, record: Mapping[str, Any]) -> None:
        if self._file:
            self._file.write(json.dumps(record) + "\n")  # ASCII: lone surrogates and control characters escaped
