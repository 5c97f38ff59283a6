"""The folder that a conversion writes: all of it is there or nothing, and nobody else's files are lost."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

RECORD = "conversion.json"
VERDICTS = ".media.jsonl"
ADDED = (VERDICTS, ".checked.parquet", ".unusable.jsonl")  # beside a parquet file, by check_media


class BadOutput(ValueError):
    """An output folder that cannot be written, with the reason."""


def refuse_foreign(out: Path) -> None:
    """`out` will be replaced: so it must be empty, or hold what a conversion wrote and nothing else.

    Raises:
        BadOutput: if it holds anything else.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise BadOutput(f"--out {out} is a file; name a folder")
    try:
        written = set(json.loads((out / RECORD).read_text(encoding="utf-8"))["written"])
    except (OSError, ValueError, KeyError, TypeError):
        written = set()
    names = (path.name for path in out.iterdir())
    foreign = sorted(name for name in names if name not in written and not name.endswith(ADDED))
    if foreign:
        raise BadOutput(
            f"--out {out} holds {', '.join(foreign[:5])}{' and more' if len(foreign) > 5 else ''}, which no conversion "
            "wrote, and a conversion replaces its folder: name another folder, or empty this one"
        )


def replace_folder(new: Path, out: Path) -> None:
    """`new` takes the place of `out`, whose files go; but verdicts are on media, which stay."""
    refuse_foreign(out)  # again: a conversion takes minutes
    for verdicts in out.glob(f"*{VERDICTS}"):
        shutil.copy2(verdicts, new)
    old = new.with_name(new.name + ".old")
    if out.exists():
        os.rename(out, old)
    try:
        os.rename(new, out)
    finally:
        if old.exists() and not out.exists():
            os.rename(old, out)
    shutil.rmtree(old, ignore_errors=True)
