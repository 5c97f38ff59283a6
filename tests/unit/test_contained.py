"""What `.ci/run` puts around `make test`: a time limit, an init that collects, and an end for what is left."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CONTAINED = Path(__file__).parents[2] / ".ci" / "contained.py"

# Starts `sleep` through a shell that ends at once, so that `sleep` is orphaned; prints its process id.
ORPHAN = "sleep {seconds} >/dev/null 2>&1 & echo $!"


def contained(script: str, minutes: float = 1) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(CONTAINED), "--minutes", str(minutes), "bash", "-c", script]
    return subprocess.run(command, capture_output=True, text=True, timeout=50)


def test_exit_code_is_handed_on():
    assert contained("exit 7").returncode == 7


def test_an_orphan_that_ends_is_collected():
    # uncollected it stays in /proc as a zombie, and looks alive to whoever waits for its end
    orphan = ORPHAN.format(seconds=0.1)
    script = f"pid=$(bash -c '{orphan}'); for _ in {{1..100}}; do [ -e /proc/$pid ] || exit 0; sleep 0.1; done; exit 1"
    assert contained(script).returncode == 0


def test_an_orphan_that_stays_is_ended_and_told():
    run = contained(f"bash -c '{ORPHAN.format(seconds=300)}'")
    assert run.returncode == 0
    assert "1 processes were still running" in run.stderr
    assert not Path("/proc", run.stdout.strip()).exists()


def test_time_limit():
    run = contained("sleep 300", minutes=0.01)
    assert run.returncode == 124
    assert "not done after 0.01 minutes" in run.stderr
