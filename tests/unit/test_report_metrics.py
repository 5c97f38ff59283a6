"""What a run logged over all its starts: a step counts once, and nothing of a branch that was left."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from verl_care.checkpoints import resume
from verl_care.report.metrics import MetricsReader


class Run:
    """Starts and what each logs, with clocks that tell them apart."""

    def __init__(self, folder: Path):
        self.folder, self._time = folder, 0

    def start(self, step: int, last: int, name: str) -> None:
        """Go on behind `step`, and log up to `last`."""
        resume.begin(self.folder, step)
        path = self.folder / "metrics.jsonl"
        path.write_text("".join(json.dumps({"step": n, "data": {name: n}}) + "\n" for n in range(step + 1, last + 1)))
        self._time += 1
        os.utime(path, (self._time, self._time))

    def read(self) -> dict[int, str]:
        """Step -> the starts that logged it."""
        reader = MetricsReader(self.folder)
        reader.update()
        return {step: "".join(sorted(data)) for step, data in sorted(reader.logged().items())}


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path)


def test_two_goings_back(run):
    run.start(0, 9, "a")
    run.start(5, 7, "b")  # voids 6 to 9 of a
    run.start(6, 6, "c")  # voids 7 of b; a's 7 to 9 stay void, though this goes back behind 6 only
    assert run.read() == {1: "a", 2: "a", 3: "a", 4: "a", 5: "a", 6: "b"}


def test_the_second_goes_back_further(run):
    run.start(0, 9, "a")
    run.start(7, 8, "b")
    run.start(2, 3, "c")  # voids 3 to 9 of a, whose part is named after step 7, and 8 of b
    assert run.read() == {1: "a", 2: "a", 3: "c"}


def test_the_same_step_twice(run):
    run.start(0, 4, "a")
    run.start(2, 4, "b")
    run.start(2, 3, "c")
    assert run.read() == {1: "a", 2: "a", 3: "c"}


def test_anew(run):
    run.start(0, 4, "a")
    run.start(2, 3, "b")
    run.start(0, 1, "c")
    assert run.read() == {1: "c"}


def test_the_part_that_grows_is_the_last_whatever_its_clock_says(run):
    run.start(0, 3, "a")
    run.start(1, 2, "b")
    os.utime(run.folder / "metrics.jsonl", (0, 0))
    assert run.read() == {1: "a", 2: "b"}
