"""Removes the shared-memory segments that a run leaves in /dev/shm.

vLLM and verl 0.9.1 create segments called `psm_*` and `verl_weights_*` and are ended by Ray before they
can unlink them. A machine fills up after some hundred runs. Only what belongs to this user, bears one
of these names and is mapped by no living process is ever removed.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

PREFIXES = ("psm_", "verl_weights_")
_SHM = Path("/dev/shm")


class Segments:
    """The segments of one run: those that appear after it was created, on this machine, for this user."""

    def __init__(self, shm: Path = _SHM, marks: Path | None = None):
        self._shm = shm
        self._marks = marks or Path(tempfile.gettempdir()) / f"verl_care-{os.getuid()}"
        self._marks.mkdir(mode=0o700, exist_ok=True)
        self._started = time.time()
        self._mark = self._marks / f"{os.getpid()}"
        self._earlier = [mark for mark in self._marks.iterdir() if not Path("/proc", mark.name).exists()]
        self._mark.touch()

    def remove_new(self) -> list[str]:
        """Remove what this run left; return the names."""
        removed = self._remove(self._newer_than(self._started))
        self._mark.unlink(missing_ok=True)
        return removed

    def remove_stale(self) -> list[str]:
        """Remove what killed runs left, those whose process is gone but whose mark is still there."""
        removed: list[str] = []
        for mark in self._earlier:
            removed += self._remove(self._newer_than(mark.stat().st_mtime))
            mark.unlink(missing_ok=True)
        return removed

    def _newer_than(self, moment: float) -> list[Path]:
        if not self._shm.is_dir():
            return []
        mine = [path for path in self._shm.iterdir() if path.name.startswith(PREFIXES)]
        stats = [(path, path.lstat()) for path in mine]
        return [path for path, stat in stats if stat.st_uid == os.getuid() and stat.st_mtime >= moment]

    def _remove(self, paths: Iterable[Path]) -> list[str]:
        wanted = {str(path): path for path in paths}
        if not wanted:
            return []
        removed = []
        for text in wanted.keys() - _mapped():
            wanted[text].unlink(missing_ok=True)
            removed.append(wanted[text].name)
        return removed


def _mapped() -> set[str]:
    """Files that some living process of this machine maps or holds open."""
    found: set[str] = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            found.update(line.split()[-1] for line in (process / "maps").read_text().splitlines() if "/" in line)
            found.update(os.readlink(descriptor) for descriptor in (process / "fd").iterdir())
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it has just ended, or is another user's and cannot map ours
    return found
