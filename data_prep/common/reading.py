"""Annotation files, row by row with the line each row begins in.

A row that is no JSON comes out as the `BadRow` to reject, in its place. A file whose structure is lost (a JSON list
that breaks off, say) is a `BadFile`: what is behind the break cannot be told, so nothing of it should be trained on.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from data_prep.common.fields import WHOLE_ROW, BadRow, shown

CHUNK = 1 << 20  # bytes
LONGEST_ROW = 16 << 20  # characters; the longest of the published data sets has some thousands
_BLANKS = " \t\r\n"
_SEPARATORS = (",", "]", *_BLANKS)

Numbered = Iterator[tuple[int, Any]]
"""(line, row) pairs; row is whatever JSON value stands there, or a `BadRow`."""


class BadFile(ValueError):
    """A file that cannot be read as a whole. The message names file and line, and says what to do."""


def read_rows(file: BinaryIO, path: Path) -> Numbered:
    """The rows of `path`, open as `file`: one a line in .jsonl, else the items of one JSON list."""
    return _read_lines(file) if path.suffix == ".jsonl" else _read_list(file, path.name)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        found = _Ambiguous(found)
        found.key = twice
    return found


class _Ambiguous(dict):
    """An object with a key that stands there twice: JSON says nothing about which one counts."""

    key: str


def _whole_number(digits: str) -> int | float:
    """Python refuses to read integers of thousands of digits. As floats they are infinite: no field takes that."""
    return int(digits) if len(digits) < 40 else float(digits)


_DECODER = json.JSONDecoder(object_pairs_hook=_unique_keys, parse_int=_whole_number)


def _unambiguous(row: Any) -> Any:
    return BadRow(row.key, "stands there twice") if isinstance(row, _Ambiguous) else row


def _read_lines(file: BinaryIO) -> Numbered:
    number = 0
    while line := file.readline(LONGEST_ROW):
        number += 1
        if len(line) == LONGEST_ROW and not line.endswith(b"\n"):
            while (rest := file.readline(CHUNK)) and not rest.endswith(b"\n"):
                pass
            yield number, BadRow(WHOLE_ROW, f"is longer than {LONGEST_ROW} bytes")
            continue
        # Bytes that are no UTF-8 become lone surrogates, which `fields.checked_text` names by their field.
        text = line.decode("utf-8-sig" if number == 1 else "utf-8", errors="surrogateescape").strip(_BLANKS)
        if not text:
            continue
        try:
            yield number, _unambiguous(_DECODER.decode(text))
        except ValueError as error:
            yield number, BadRow(WHOLE_ROW, f"is not JSON: {error}")
        except RecursionError:
            yield number, BadRow(WHOLE_ROW, "is nested too deeply")


def _read_list(file: BinaryIO, name: str) -> Numbered:
    """Items of a list of any length, with no more than a few of them in memory."""
    text = _Text(file, name)
    if text.next_character() != "[":
        raise BadFile(f"{name}: must be one JSON list of rows, but begins with {shown(text.peek(20))}")
    text.skip(1)
    if text.next_character() == "]":
        text.skip(1)
    else:
        while True:
            text.next_character()
            line = text.line
            yield line, _unambiguous(text.value())
            separator = text.next_character()
            if separator not in (",", "]"):
                raise BadFile(f"{name}, line {text.line}: expected a comma between rows, found {shown(separator)}")
            text.skip(1)
            if separator == "]":
                break
    if text.next_character():
        raise BadFile(f"{name}, line {text.line}: something follows behind the list: {shown(text.peek(20))}")


class _Text:
    """The text of a file, seen through a window that is read on when it is used up."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file, self._name = file, name
        self._decode = codecs.getincrementaldecoder("utf-8-sig")(errors="surrogateescape").decode
        self._window, self._at, self._at_end = "", 0, False
        self.line = 1

    def _read_on(self, least: int = 1) -> None:
        """Drops what has been read, and adds at least `least` bytes, if there are as many."""
        data = self._file.read(max(CHUNK, least))
        self._at_end = not data
        self._window, self._at = self._window[self._at :] + self._decode(data, final=self._at_end), 0

    def next_character(self) -> str:
        """The next character that is no blank; empty at the end of the file."""
        while True:
            rest = self._window[self._at : self._at + 64].lstrip(_BLANKS)
            if rest:
                self.skip(min(len(self._window) - self._at, 64) - len(rest))
                return rest[0]
            if self._at < len(self._window):
                self.skip(min(len(self._window) - self._at, 64))
            elif self._at_end:
                return ""
            else:
                self._read_on()

    def peek(self, count: int) -> str:
        return self._window[self._at : self._at + count]

    def skip(self, count: int) -> None:
        self.line += self._window.count("\n", self._at, self._at + count)
        self._at += count

    def value(self) -> Any:
        """The JSON value that begins here."""
        while True:
            try:
                value, end = _DECODER.raw_decode(self._window, self._at)
                behind = self._window[end : end + 4]
                # "0" or "0." at the window's end may be going to be "0.5e+3"
                if behind.startswith(_SEPARATORS) or len(behind) == 4 or self._at_end:
                    self.skip(end - self._at)
                    return value
            except RecursionError as error:
                raise BadFile(f"{self._name}, line {self.line}: this row is nested too deeply") from error
            except ValueError as error:
                if self._at_end or len(self._window) - self._at > LONGEST_ROW:
                    raise BadFile(self._broken(error)) from error
            self._read_on(least=len(self._window) - self._at)

    def _broken(self, error: ValueError) -> str:
        reason = getattr(error, "msg", str(error))
        line = self.line + self._window.count("\n", self._at, getattr(error, "pos", self._at))
        return (
            f"{self._name}, line {line}: is not JSON ({reason}), in the row that begins in line {self.line}. Rows "
            "behind it cannot be told apart, so none of the file is used: download it again"
        )
