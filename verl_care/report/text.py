"""What others wrote, as strings and numbers that a page of JSON can hold. Nothing here interprets any of it."""

from __future__ import annotations

import math
from typing import Any


def clean(value: Any) -> str:
    """Valid Unicode: half a surrogate pair becomes U+FFFD, a null becomes the empty text, a number its digits."""
    text = "" if value is None else value if isinstance(value, str) else str(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def bounded(value: Any, limit: int) -> tuple[str, int]:
    """(the first `limit` characters, how many were cut off)."""
    text = clean(value)
    return text[:limit], max(0, len(text) - limit)


def number(value: Any) -> float | None:
    """A finite number; None for everything else, NaN and infinity included."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return float(value) if isinstance(value, bool) else None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # a whole number of 400 digits is JSON
        return None


def whole(value: Any) -> int | None:
    """A whole number that JavaScript can hold; None for everything else."""
    found = number(value)
    return int(found) if found is not None and found.is_integer() and abs(found) < 1 << 53 else None


def texts(value: Any) -> list[str]:
    return [clean(item) for item in value] if isinstance(value, list | tuple) else []


def tags(value: Any) -> dict[str, str]:
    return {clean(name): clean(item) for name, item in value.items()} if isinstance(value, dict) else {}
