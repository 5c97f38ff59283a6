"""The fields of one row, checked. What is wrong is a `BadRow` that names the field and the reason; nothing is repaired.

Rows are hostile: any JSON value may stand anywhere, and a text may hold anything.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

WHOLE_ROW = "(row)"
MEDIA_MARKS = ("<video>", "<image>", "<audio>")  # verl splits a prompt at these
SPECIAL_START, SPECIAL_END = "<|", "|>"  # Qwen's tokenizers read <|im_end|>, <|image_pad|>, ... as one special token
SHOWN = 80  # characters of a bad value in a reason


class BadRow(ValueError):
    """A row that cannot be used, by the field that is to blame.

    Rows are counted by what `reason` says in front of its first colon; what differs from row to row stands behind it.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field, self.reason = field, reason


def shown(value: object) -> str:
    """`value` as a reason shows it: short, and printable whatever it holds."""
    text = ascii(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}... ({len(text)} characters)"


def object_of(row: object) -> Mapping[str, Any]:
    if not isinstance(row, Mapping):
        raise BadRow(WHOLE_ROW, f"must be a JSON object: found {shown(row)}")
    return row


def value_of(row: Mapping[str, Any], field: str) -> Any:
    if field not in row:
        raise BadRow(field, "is missing")
    return row[field]


def checked_text(value: object, field: str) -> str:
    """A text as it is given, which may become a part of a prompt: UTF-8, no media mark, no special token."""
    if not isinstance(value, str):
        raise BadRow(field, f"must be a text: found {shown(value)}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise BadRow(field, f"is not UTF-8 text: {shown(value)}") from error
    if "<" in value:
        for mark in MEDIA_MARKS:
            if mark in value:
                raise BadRow(field, f"contains the media mark {mark}")
        start = value.find(SPECIAL_START)
        if start >= 0 and value.find(SPECIAL_END, start) >= 0:
            raise BadRow(field, f"contains a special token: {shown(value[start:])}")
    return value


def text_of(row: Mapping[str, Any], field: str) -> str:
    """A text that is there, stripped."""
    text = checked_text(value_of(row, field), field).strip()
    if not text:
        raise BadRow(field, "must not be empty")
    return text


def optional_text_of(row: Mapping[str, Any], field: str) -> str | None:
    """A text; None where the field is missing or null."""
    return text_of(row, field) if row.get(field) is not None else None


def list_of(row: Mapping[str, Any], field: str) -> list[Any]:
    value = value_of(row, field)
    if not isinstance(value, list):
        raise BadRow(field, f"must be a list: found {shown(value)}")
    return value


def texts_of(row: Mapping[str, Any], field: str) -> list[str]:
    """A list of texts that are not empty, each stripped."""
    texts = [checked_text(item, field).strip() for item in list_of(row, field)]
    if not all(texts):
        raise BadRow(field, f"holds an empty text: {shown(row[field])}")
    return texts


def id_of(row: Mapping[str, Any], field: str) -> str:
    value = value_of(row, field)
    if isinstance(value, bool) or not isinstance(value, int | str) or str(value).strip() == "":
        raise BadRow(field, f"must be a whole number or a text: found {shown(value)}")
    return checked_text(str(value), field).strip()


def one_of(row: Mapping[str, Any], field: str, allowed: Collection[str]) -> str:
    value = value_of(row, field)
    if not isinstance(value, str) or value not in allowed:
        raise BadRow(field, f"must be one of {', '.join(allowed)}: found {shown(value)}")
    return value


def optional_number_of(row: Mapping[str, Any], field: str) -> float | None:
    """A finite number; None where the field is missing or null."""
    value = row.get(field)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BadRow(field, f"must be a finite number: found {shown(value)}")
    return float(value)
