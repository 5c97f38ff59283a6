"""Removes the shared-memory segments that a run leaves in /dev/shm.

vLLM and verl 0.9.1 create segments called `psm_*` and `verl_weights_*` and are ended by Ray before they
can unlink them. A machine fills up after some hundred runs. vLLM's executor also has a semaphore of Python's,
`sem.mp-*`, which stays when a kill takes Python's own resource tracker along. Only what belongs to this user,
bears one of these names and is mapped by no living process is ever removed.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

PREFIXES = ("psm_", "verl_weights_")
SEMAPHORES = "sem.mp-"
_SHM = Path("/dev/shm")
_HOST_IPC, _HOST_PID = 0xEFFFFFFF, 0xEFFFFFFC  # Linux' first namespaces (include/linux/proc_ns.h)


class Segments:
    """The segments of one run: those that appear after it was created, on this machine, for this user.

    Raises:
        ForeignFolder: if the folder of marks is somebody else's, or others may write there.

    A run leaves a mark, named by its process, until it has tidied up. The mark's time is when the run began; it is
    taken from the file, because file systems and `time.time` do not read the same clock.
    """

    def __init__(self, shm: Path = _SHM, marks: Path | None = None):
        self._shm = shm
        marks = marks or Path(tempfile.gettempdir()) / f"verl_care-{os.getuid()}"
        marks.mkdir(mode=0o700, exist_ok=True)
        _check_ours(marks)
        self._earlier = list(_ended(marks))
        self._mark = marks / f"{os.getpid()}"
        self._mark.write_text(_start_of(self._mark.name) or "")
        self._started = self._mark.stat().st_mtime

    def remove_new(self) -> list[str]:
        """Remove what this run left; return the names."""
        removed = self._remove(self._newer_than(self._started))
        self._mark.unlink(missing_ok=True)
        return removed

    def remove_stale(self) -> list[str]:
        """Remove what killed runs left, those whose process is gone but whose mark is still there."""
        removed: list[str] = []
        for mark, started in self._earlier:
            removed += self._remove(self._newer_than(started))
            if mark != self._mark:
                mark.unlink(missing_ok=True)
        return removed

    def _newer_than(self, moment: float) -> list[Path]:
        if not self._shm.is_dir() or _shared_with_unseen_processes():
            return []
        found = {path: _stat(path) for path in self._shm.iterdir() if path.name.startswith((*PREFIXES, SEMAPHORES))}
        return [path for path, seen in found.items() if seen and seen.st_uid == os.getuid() and seen.st_mtime >= moment]

    def _remove(self, paths: Iterable[Path]) -> list[str]:
        wanted = {str(path): path for path in paths}
        if not wanted:
            return []
        removed = []
        for text in wanted.keys() - _mapped():
            wanted[text].unlink(missing_ok=True)
            removed.append(wanted[text].name)
        return removed


class ForeignFolder(RuntimeError):
    """A name in the folder of temporary files that somebody else has taken; the message says how to go on."""


def _check_ours(marks: Path) -> None:
    """Else a link in it would have us write to any file of ours."""
    found = marks.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise ForeignFolder(
            f"{marks} is to be a folder that this user alone writes to, and is not (mode {found.st_mode:o}, user "
            f"{found.st_uid}): remove it, or set TMPDIR to a folder of your own"
        )


def _ended(marks: Path) -> Iterator[tuple[Path, float]]:
    """The marks of runs that were killed, and when each began."""
    for mark in marks.iterdir():
        found = _stat(mark)
        if found and mark.name.isdecimal() and mark.read_text() != _start_of(mark.name):
            yield mark, found.st_mtime


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except FileNotFoundError:  # its owner has just removed it
        return None


def _start_of(process: str) -> str | None:
    """When a process started, in ticks since boot, which tells it from a later one of the same number; None if gone."""
    try:
        line = Path("/proc", process, "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return line.rpartition(")")[2].split()[19]  # field 22; the name in field 2 may hold blanks


def _shared_with_unseen_processes() -> bool:
    """True in a container that has the host's shared memory (`--ipc=host`) but sees only its own processes."""
    try:
        pid, ipc = (os.stat(f"/proc/self/ns/{name}").st_ino for name in ("pid", "ipc"))
    except OSError:
        return False
    return ipc == _HOST_IPC and pid != _HOST_PID


def _mapped() -> set[str]:
    """Files that some living process of this machine maps or holds open."""
    found: set[str] = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            lines = (process / "maps").read_text(errors="replace").splitlines()
            found.update(line.split(maxsplit=5)[-1] for line in lines if "/" in line)
            found.update(os.readlink(descriptor) for descriptor in (process / "fd").iterdir())
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it has just ended, or is another user's and cannot map ours
    return found
