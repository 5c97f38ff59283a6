"""A progress bar of the rows that are appended to a file, by whichever process."""

from __future__ import annotations

import atexit
import json
from pathlib import Path
from threading import Event, Thread

from tqdm import tqdm

POLL_S = 0.5


class Progress:
    """Shows the responses from now on; the terminal is that of this process, and Ray's are not."""

    def __init__(self, path: Path, total: int):
        self._path, self._end = path, Event()
        self._at = path.stat().st_size if path.exists() else 0
        self.bar = tqdm(total=total, desc="Responses", smoothing=0)
        self._failed = 0
        self._thread = Thread(target=self._follow, daemon=True)
        self._thread.start()
        atexit.register(self.stop)

    def stop(self) -> None:
        """Look for the last time."""
        if not self._end.is_set():
            self._end.set()
            self._thread.join()
            self._look()
            self.bar.close()

    def _follow(self) -> None:
        while not self._end.wait(POLL_S):
            self._look()

    def _look(self) -> None:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._at)
            whole = file.read().rpartition(b"\n")[0]
        if not whole:
            return
        self._at += len(whole) + 1
        rows = [json.loads(line) for line in whole.split(b"\n")]
        self._failed += sum(row["failure"] is not None for row in rows)
        if self._failed:
            self.bar.set_postfix(failed=self._failed, refresh=False)
        self.bar.update(len(rows))
