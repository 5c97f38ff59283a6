"""What the quick start says of a training that does not end well: stand-ins for the command, real processes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from recipes.quickstart import stages

RAY = "Exception: The current node timed out during startup. This could happen because some of the raylet failed"


@pytest.fixture
def training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def training(program: str, minutes: float = 1) -> list[int]:
        told: list[int] = []
        monkeypatch.setattr(stages, "training_command", lambda *_: [sys.executable, "-c", program])
        stages.run_training(tmp_path, [], minutes, lambda step, logged: told.append(step))
        return told

    return training


def test_its_exit_code_and_where_its_log_is(training, tmp_path: Path):
    with pytest.raises(stages.StageFailed, match=r"exit code 3; the reason is at the end of .*/train\.log$"):
        training("print('no space left'); raise SystemExit(3)")
    assert "no space left" in (tmp_path / "training/train.log").read_text()


def test_a_machine_that_was_too_busy_for_ray(training):
    with pytest.raises(stages.StageFailed, match=r"train\.log\. Ray gives itself 30 s to start, .* call again"):
        training(f"print({RAY!r}); raise SystemExit(1)")


def test_one_that_hangs_is_ended(training):
    with pytest.raises(stages.StageFailed, match=r"has run for 0\.01 minutes and was ended"):
        training("import time; time.sleep(60)", minutes=0.01)


def test_the_last_whole_line_is_told(training):
    program = """
import pathlib, time
line = '{"step": 1, "data": {}}\\n{"step": 2, "data": {}}\\n{"step": 3, "da'
pathlib.Path("training/metrics.jsonl").write_text(line)
time.sleep(1.2)
"""
    assert set(training(program)) == {2}
