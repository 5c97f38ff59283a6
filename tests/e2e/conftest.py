"""A small world and model, and the user's command, for the tests that really train."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from recipes.quickstart.stages import training_command
from tests.e2e.world import write_model, write_world
from tests.report.conftest import browser, visit  # noqa: F401 - fixtures: a browser for the page of a real run

START_LIMIT = 400  # seconds; a healthy start takes under 90


class Run:
    """`python -m verl.trainer.main_ppo --config-name care_quickstart ...`, as a user types it."""

    def __init__(self, home: Path, name: str):
        self.home, self.folder = home, home / name
        self.shared_memory_before = set(os.listdir("/dev/shm"))
        self._processes: list[subprocess.Popen] = []

    @property
    def log(self) -> str:
        path = self.folder / "train.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def command(self, *overrides: str) -> list[str]:
        return training_command(
            f"quickstart='{self.home}'", f"trainer.default_local_dir='{self.folder}'",
            "trainer.val_before_train=false", "trainer.test_freq=-1",
            "data.train_batch_size=4", "actor_rollout_ref.rollout.n=4", *overrides,
        )  # fmt: skip

    def start(self, *overrides: str) -> subprocess.Popen:
        self.folder.mkdir(exist_ok=True)
        command = self.command(*overrides)
        with (self.folder / "train.log").open("a") as file:
            process = subprocess.Popen(
                command, cwd=self.home, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
            )
        self._processes.append(process)
        return process

    def finish(self, *overrides: str) -> None:
        """Start, wait, and fail with the end of the log unless it ended well."""
        assert self.start(*overrides).wait(START_LIMIT) == 0, self.log[-4000:]

    def end(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data and model of a quick start, in a path with a space."""
    home = tmp_path_factory.mktemp("quick start")
    write_world(home)
    write_model(home / "model")
    return home


@pytest.fixture(scope="module")
def new_run(home: Path) -> Iterator[Callable[[str], Run]]:
    runs: list[Run] = []

    def make(name: str) -> Run:
        runs.append(Run(home, name))
        return runs[-1]

    yield make
    for run in runs:
        run.end()
