"""What a check says, and what the checks share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from verl_care.platforms import wants_cpu

OK, NOTE, FAIL = "ok", "note", "FAIL"


@dataclass(frozen=True)
class Finding:
    """What one check found, and the line that mends it."""

    status: str
    subject: str
    text: str
    mend: str = ""

    def __str__(self) -> str:
        line = f"{self.status:4}  {self.subject:<13} {self.text}"
        return f"{line}\n      {'':13} -> {self.mend}" if self.mend else line


def error_of(action: Callable[[], Any]) -> str | None:
    """What `action` raised, in one line; None if nothing."""
    try:
        action()
    except Exception as error:  # noqa: BLE001 - anything at all may be broken here, and saying so is the task
        return f"{type(error).__name__}: {one_line(error)}"
    return None


def one_line(error: Exception, limit: int = 200) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= limit else text[:limit] + " ..."


def install_line() -> str:
    if wants_cpu():
        return "make env"
    return "pip install '.[gpu]' in a checkout, behind torch and flash-attn (README.md, Train on GPUs)"


def version_of(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
