"""JSON lines that survive a kill: each append is one write, and a reader takes what is whole.

A name that ends in `.zst` is compressed: every append is a Zstandard frame of its own, and frames in a row are one
stream, so that the file can be read, by `zstdcat` too, while it grows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import zstandard

COMPRESSED = ".zst"


class Damaged(ValueError):
    """Damage that has whole frames behind it: to cut it off would cost these."""


def append(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Add rows to the end, all in one write; several processes may do so at once.

    Raises:
        TypeError, ValueError: for what is no JSON, NaN and infinity included (null says that there is no number).
    """
    data = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows).encode()
    if not data:
        return
    if path.suffix == COMPRESSED:
        data = zstandard.compress(data)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        written = os.write(descriptor, data)
    finally:
        os.close(descriptor)
    if written < len(data):
        raise OSError(f"{path}: {written} of {len(data)} bytes could be written; is the disk full?")


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file that may still be written to; an end that is not whole yet is left out.

    Raises:
        ValueError: a line that is whole and yet no JSON object; it names file and line.
        Damaged: a compressed file with damage that is not its end.
    """
    yield from _rows(path, _content(path, 0)[0], "line")


def read_on(path: Path, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """(rows behind `offset`, where to go on reading); as `read` otherwise. An offset is 0, or what this returned."""
    content, taken = _content(path, offset)
    rows = list(_rows(path, content, f"behind byte {offset} line" if offset else "line"))
    return rows, offset + taken


def _content(path: Path, offset: int) -> tuple[bytes, int]:
    """(whole lines behind `offset`, how many bytes of the file they take)."""
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read()
    if path.suffix == COMPRESSED:
        return _whole(path, data)
    end = data.rfind(b"\n") + 1
    return data[:end], end


def _rows(path: Path, content: bytes, where: str) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{path}, {where} {number}, is no JSON ({error}): remove that line") from error
        if not isinstance(row, dict):
            raise ValueError(f"{path}, {where} {number}, is {type(row).__name__} and no JSON object: remove that line")
        yield row


def mend(path: Path) -> int:
    """Cut off an end that a crash left half, before the file's only writer goes on; the number of bytes removed.

    Raises:
        Damaged: a compressed file with damage that is not its end; it stays as it is.
    """
    if not path.exists():
        return 0
    data = path.read_bytes()
    whole = _whole(path, data)[1] if path.suffix == COMPRESSED else data.rfind(b"\n") + 1
    if whole < len(data):
        os.truncate(path, whole)
    return len(data) - whole


def _whole(path: Path, data: bytes) -> tuple[bytes, int]:
    """(content of the frames that are whole, how many bytes they take)."""
    content, rest = [], data
    while rest:
        frame = zstandard.ZstdDecompressor().decompressobj()
        try:
            part = frame.decompress(rest)
        except zstandard.ZstdError as error:  # zeros, which a power cut leaves
            if zstandard.FRAME_HEADER in rest[1:]:
                raise Damaged(f"{path} is damaged ({error}), and not at its end: move it away") from error
            break
        if not frame.eof:
            break
        content.append(part)
        rest = frame.unused_data
    return b"".join(content), len(data) - len(rest)
