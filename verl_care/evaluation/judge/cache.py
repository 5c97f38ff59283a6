"""Replies on disk, so that the same question to the same judge is paid for once, whatever run asks it.

SQLite, because several judges may write at once and any of them may be killed. What is kept is the reply, not how it
was read, and the digest of the request, not its text.
"""

from __future__ import annotations

import json
import os
import sqlite3
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

from verl_care.evaluation.judge.verdict import Reply

_FILE = "judge.sqlite"
_WAIT = 60.0  # seconds for another process that is writing


def default_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "verl_care"


def digest(request: dict[str, Any], prompt: str) -> str:
    """Of all that a reply depends on: model, sampling, format and every message, and the name of the prompt."""
    return sha256(json.dumps({"prompt": prompt, "request": request}, sort_keys=True).encode()).hexdigest()


class Cache:
    """Digest of a request -> reply, in `folder`, which is made."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / _FILE
        try:
            self._database = sqlite3.connect(path, timeout=_WAIT, isolation_level=None)
            self._database.execute("CREATE TABLE IF NOT EXISTS replies (request TEXT PRIMARY KEY, reply TEXT NOT NULL)")
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{path} is no cache of replies ({error}): remove it, or name another --cache") from error

    def close(self) -> None:
        self._database.close()

    def get(self, request: str) -> Reply | None:
        found = self._database.execute("SELECT reply FROM replies WHERE request = ?", (request,)).fetchone()
        return None if found is None else Reply(**json.loads(found[0]))

    def put(self, request: str, reply: Reply) -> None:
        self._database.execute("INSERT OR REPLACE INTO replies VALUES (?, ?)", (request, json.dumps(asdict(reply))))
