"""The marks of media in prompts, and whether a row has as many media as marks. No media is opened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

MARKS = {"video": "<video>", "image": "<image>", "audio": "<audio>"}


class Columns(NamedTuple):
    """Where a row has its prompt and its media: `data.prompt_key`, `data.video_key`, ..."""

    prompt: str = "prompt"
    video: str = "videos"
    image: str = "images"
    audio: str = "audios"

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Columns:
        """Those that a `data` node names."""
        return cls(*(data.get(f"{name}_key") or default for name, default in cls._field_defaults.items()))


def mismatch(messages: Sequence[Mapping[str, Any]], media: Mapping[str, int], columns: Columns) -> str | None:
    """What is wrong with the media of a row: `media[kind]` of them, of each kind that it has a column for.

    Returns:
        None where there are as many as marks.
    """
    texts = [message["content"] for message in messages if isinstance(message["content"], str)]
    for kind, mark in MARKS.items():
        marks, column = sum(text.count(mark) for text in texts), getattr(columns, kind)
        if marks != media.get(kind, 0):
            found = f"{media[kind]} in {column}" if kind in media else f"no column {column}"
            return f"{marks} {mark} in {columns.prompt}, and {found} (data.{kind}_key)"
    return None


def mismatches(rows: pa.Table | pa.RecordBatch, columns: Columns) -> Iterator[str | None]:
    """`mismatch` of each row.

    Raises:
        ValueError: for a column of media that is no list.
    """
    names = {kind: getattr(columns, kind) for kind in MARKS}
    media = {kind: _lengths(rows, name) for kind, name in names.items() if name in rows.schema.names}
    for place, messages in enumerate(rows.column(columns.prompt).to_pylist()):
        yield mismatch(messages or (), {kind: lengths[place] for kind, lengths in media.items()}, columns)


def _lengths(rows: pa.Table | pa.RecordBatch, column: str) -> list[int]:
    values = rows.column(column)
    if pa.types.is_null(values.type):
        return [0] * len(values)
    try:
        return pc.call_function("list_value_length", [values]).fill_null(0).to_pylist()
    except pa.ArrowNotImplementedError as error:
        raise ValueError(f"column {column}: must hold lists of media, and holds {values.type}") from error
