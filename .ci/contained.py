"""Run a command within a time limit, and end whatever it leaves running.

Ray and vLLM start processes in sessions of their own, which outlive a killed test run. Here they become
children of this process when their parents end (PR_SET_CHILD_SUBREAPER), so that it can find each one.
As init would, it also collects those that end: Ray's workers end when the raylet is gone, and a raylet
that nobody collects looks alive to them for ever.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
GRACE_S = 15.0
TIMED_OUT = 124  # as timeout(1) says it


def descendants(root: int) -> set[int]:
    """Process ids of all living descendants of `root`."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            after_name = (entry / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
        if after_name[0] != "Z":
            parents[int(entry.name)] = int(after_name[1])
    found = {root}
    while new := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= new
    return found - {root}


def end_all() -> int:
    """End every descendant, politely at first; return how many there were."""
    left = descendants(os.getpid())
    for sent, wait_s in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, GRACE_S)):
        deadline = time.monotonic() + wait_s
        for pid in descendants(os.getpid()):
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.kill(pid, sent)
        while descendants(os.getpid()) and time.monotonic() < deadline:
            time.sleep(0.1)
    with contextlib.suppress(ChildProcessError):  # all are collected
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    return len(left)


def exit_code_of(process: subprocess.Popen, limit_s: float) -> int | None:
    """Collect ended processes until `process` is one of them; None if it is still running after `limit_s`."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == process.pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return process.returncode
        if pid == 0:
            time.sleep(0.05)
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()

    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        process = subprocess.Popen(options.command)
        code = exit_code_of(process, options.minutes * 60)
        if code is None:
            print(f"{' '.join(options.command)}: not done after {options.minutes:g} minutes, ended.", file=sys.stderr)
            code = TIMED_OUT
    finally:
        ended = end_all()
        if ended:
            print(f"{ended} processes were still running and were ended.", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
