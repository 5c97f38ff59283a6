"""The files that rows use, and the growing list of what was found about each."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

from data_prep.common.fields import BadRow, shown
from verl_care.data.budget import RELEASED_FPS, WHOLE, Stretch, frame_range
from verl_care.data.decoders import MediaError
from verl_care.data.marks import MARKS, Columns, mismatch
from verl_care.data.sources import local_path, stretch_of

KINDS = ("video", "image")


class MediaFile(NamedTuple):
    kind: str
    """video or image."""
    path: str
    """Of a file, or of a folder of frames; absolute, as training opens it."""


class Use(NamedTuple):
    """A file as one row uses it."""

    column: str
    file: MediaFile
    stretch: Stretch = WHOLE
    frame_rate: float = RELEASED_FPS
    """Of a folder of frames."""


def uses_of(
    row: Mapping[str, Any],
    columns: Columns = Columns(),  # noqa: B008 - a tuple
) -> Iterator[Use]:
    """What a row of verl's schema shows: paths, or objects with a path, of clips, folders of frames and images.

    Raises:
        BadRow: for anything else.
    """
    for kind in KINDS:
        column: str = getattr(columns, kind)
        items = row.get(column)
        if items is None:  # text only
            continue
        if not isinstance(items, list):
            raise BadRow(column, f"must be a list: found {shown(items)}")
        for item in items:
            about = item if isinstance(item, Mapping) else {kind: item}
            paths = about.get(kind, about.get("path"))
            frames = paths if kind == "video" and isinstance(paths, list) else []  # one by one
            is_list = bool(frames)
            files = [_file("image" if is_list else kind, path, column) for path in frames or [paths]]
            try:
                stretch, rate = stretch_of(about, "of the row")
                if is_list:
                    frame_range(len(files), rate, stretch)
            except ValueError as error:  # MediaError is one
                raise BadRow(column, f"must show a part of a clip: {error}") from error
            yield from (Use(column, file) if is_list else Use(column, file, stretch, rate) for file in files)


def check_marks(row: Mapping[str, Any], columns: Columns) -> None:
    """Does each mark of the prompt stand for one of the row's media? Clips in a column that nobody named have none.

    A row without a chat in the column of prompts, as one for SFT, is not asked.

    Raises:
        BadRow: if not.
    """
    messages = row.get(columns.prompt)
    if not isinstance(messages, list):
        return
    chat = [message for message in messages if isinstance(message, Mapping) and "content" in message]
    media = {kind: len(row[name] or ()) for kind in MARKS if (name := getattr(columns, kind)) in row}
    if reason := mismatch(chat, media, columns):
        raise BadRow(columns.prompt, f"must have a mark for each of the media: {reason}")


def _file(kind: str, path: object, column: str) -> MediaFile:
    try:
        return MediaFile(kind, str(local_path(path, kind)))
    except MediaError as error:
        raise BadRow(column, f"must hold local paths: {error}") from error


class Stamp(NamedTuple):
    """What changes when a file does; of a folder, the sum and the latest of what is in it."""

    bytes: int
    mtime_ns: int


def stamp_of(path: str) -> Stamp | None:
    """None for a file that is not there or cannot be asked."""
    try:
        status = os.stat(path)
        if not os.path.isdir(path):
            return Stamp(status.st_size, status.st_mtime_ns)
        with os.scandir(path) as entries:
            inside = [entry.stat() for entry in entries]
    except OSError:
        return None
    return Stamp(sum(s.st_size for s in inside), max(s.st_mtime_ns for s in [status, *inside]))


@dataclass(frozen=True)
class Verdict:
    """A line of the list."""

    kind: str
    path: str
    bytes: int | None
    mtime_ns: int | None
    readable: bool
    frames: int | None
    seconds: float | None
    width: int | None
    height: int | None
    why: str | None
    """Why it is not readable."""
    limit_s: float | None
    """The time limit that was not enough, if that was it."""

    @property
    def file(self) -> MediaFile:
        return MediaFile(self.kind, self.path)

    def objection(self, use: Use) -> str | None:
        """Why a row that uses the file like this cannot be trained on; None if it can."""
        if not self.readable:
            return self.why
        if self.kind == "video" and self.frames is not None:
            try:
                frame_range(self.frames, self.frames / self.seconds if self.seconds else use.frame_rate, use.stretch)
            except ValueError as error:
                return str(error)
        return None


_TYPES = get_type_hints(Verdict)


class Busy(RuntimeError):
    """Another process writes this list."""


class VerdictList:
    """One JSON object a line, appended as files are judged. A line that is no verdict is counted and left out."""

    def __init__(self, path: Path):
        self.path = path
        self._load()

    def _load(self) -> None:
        self.damaged = 0
        self._whole = 0  # bytes up to the end of the last whole line
        self._verdicts: dict[MediaFile, Verdict] = {}
        if self.path.exists():
            with self.path.open("rb") as lines:
                for line in lines:
                    self._read(line)

    def _read(self, line: bytes) -> None:
        whole = line.endswith(b"\n")
        verdict = _verdict(line) if whole else None
        if whole:
            self._whole += len(line)
        if verdict is None:
            self.damaged += 1
        else:
            self._verdicts[verdict.file] = verdict

    def get(self, file: MediaFile) -> Verdict:
        """The last verdict on a file.

        Raises:
            KeyError: if there is none.
        """
        return self._verdicts[file]

    def still_holds(self, file: MediaFile, limit_s: float) -> bool:
        """Was the file judged as it is now, and, if there was too little time, with as much as there is now?"""
        verdict = self._verdicts.get(file)
        if verdict is None:
            return False
        stamp = stamp_of(file.path)
        same = (verdict.bytes, verdict.mtime_ns) == (stamp or (None, None))
        return same and (verdict.limit_s is None or verdict.limit_s >= limit_s)

    def __enter__(self) -> VerdictList:
        """Begin to append.

        Raises:
            Busy: if another process does.
        """
        self._file = self.path.open("ab")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise Busy(f"another check writes {self.path}; let it end, or end it") from error
        self._load()  # what another check wrote before it let go of the list
        self._file.truncate(self._whole)  # what a killed check left of its last line
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, verdict: Verdict) -> None:
        self._verdicts[verdict.file] = verdict
        self._file.write(json.dumps(dataclasses.asdict(verdict)).encode() + b"\n")
        self._file.flush()


def _verdict(line: bytes) -> Verdict | None:
    try:
        record = json.loads(line)
    except ValueError:  # not JSON, or not UTF-8
        return None
    as_written = isinstance(record, dict) and all(
        field in record and isinstance(record[field], kind) for field, kind in _TYPES.items()
    )
    return Verdict(**record) if as_written and len(record) == len(_TYPES) else None
