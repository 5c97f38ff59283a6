"""RUN: whose answers it holds, which samples are still missing, and that one run at a time writes there."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from verl_care.evaluation.generate import settings
from verl_care.evaluation.generate.questions import Question, QuestionKey
from verl_care.evaluation.rows import RESPONSES, Row, append_rows, read_rows
from verl_care.records import jsonl
from verl_care.settings import differences

LOCK = ".lock"
WAIT_S = 60.0  # for processes of a killed run to end
POLL_S = 0.2


class RunRefused(ValueError):
    """Answers that must not go into this folder; the message says which key mends it."""


class RunLock:
    """Held alone while a run is prepared, then shared by the run and each process that writes for it.

    So a second run is refused while one is there, and waits for the processes that a killed one may have left. The
    kernel lets go when a process ends, however it ends.
    """

    def __init__(self, run: Path):
        self._path = run / LOCK
        run.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)

    def take(self, wait_s: float = WAIT_S) -> None:
        """Raises:
        RunRefused: if others still write there after `wait_s` seconds.
        """
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise RunRefused(
                        f"evaluation.run={self._path.parent}: another evaluation writes there. Wait for it, or set"
                        " evaluation.run to another folder."
                    ) from None
                time.sleep(POLL_S)
            else:
                return

    def share(self) -> None:
        fcntl.flock(self._file, fcntl.LOCK_SH)

    def release(self) -> None:
        os.close(self._file)


class Answers:
    """Appends rows, in one process of a run."""

    def __init__(self, run: Path, key: str):
        self.run, self.key = run, key
        self._lock = RunLock(run)
        self._lock.share()

    def add(self, row: Row) -> None:
        append_rows(self.run, [row])


@lru_cache(maxsize=1)
def answers_to(run: str) -> Answers:
    """The one of this process."""
    folder = Path(run)
    found = settings.read(folder)
    assert found is not None, "EvaluationRun writes the settings before it starts Ray"
    return Answers(folder, settings.key_of(found))


def claim(run: Path, here: Mapping[str, Any], model: str) -> None:
    """Make `run` the folder of these settings, or see that it is.

    Raises:
        RunRefused: if it holds answers made with other settings, or a damaged file of them.
    """
    with _refusing(run):
        there = settings.read(run)
    if there is None and (run / RESPONSES).exists():
        raise RunRefused(f"evaluation.run={run}: its answers say not how they were made. Set it to another folder.")
    if there is not None and (differing := differences(there, here)):
        lines = "".join(f"\n  {line}" for line in differing)
        raise RunRefused(
            f"evaluation.run={run}: its answers were made with other settings, and such are never mixed:{lines}\n"
            "Set these as they were, or evaluation.run to another folder."
        )
    if there is None:
        settings.write(run, here, model)
    jsonl.mend(run / RESPONSES)


def rows_in(run: Path) -> list[Row]:
    """Its answers so far.

    Raises:
        RunRefused: if a line is damaged or no answer.
    """
    with _refusing(run):
        return read_rows(run) if (run / RESPONSES).exists() else []


@contextmanager
def _refusing(run: Path) -> Iterator[None]:
    """What cannot be read there, as a reason to name another folder."""
    try:
        yield
    except ValueError as error:
        raise RunRefused(f"evaluation.run={run}: {error}. Mend that file, or set it to another folder.") from error


def missing_samples(
    questions: Iterable[QuestionKey], rows: Iterable[Row], samples: int, retry_failed: bool = False
) -> dict[QuestionKey, tuple[int, ...]]:
    """Question -> the numbers of its samples that have no row, of 0 .. samples - 1; questions that lack none are out.

    Args:
        retry_failed: rows with a failure count as missing.
    """
    there: dict[QuestionKey, set[int]] = {}
    for row in rows:
        if row.failure is None or not retry_failed:
            there.setdefault(QuestionKey(row.dataset, row.id), set()).add(row.sample)
    lacking = {key: tuple(n for n in range(samples) if n not in there.get(key, ())) for key in questions}
    return {key: numbers for key, numbers in lacking.items() if numbers}


def check_unchanged(questions: Sequence[Question], rows: Iterable[Row], run: Path) -> None:
    """Raises:
    RunRefused: if a question is not the one that was answered under its id.
    """
    by_key = {question.key: question for question in questions}
    for row in rows:
        question = by_key.get(QuestionKey(row.dataset, row.id))
        if question is not None and question.changed_since(row):
            raise RunRefused(
                f"evaluation.run={run}: question {row.id} of {row.dataset} was another one when it was answered; its"
                " data was converted anew. Set evaluation.run to another folder."
            )
