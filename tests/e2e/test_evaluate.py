"""An evaluation that is killed in the middle, and goes on: each response is asked for once; failures are counted."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.e2e.conftest import START_LIMIT, Run
from tests.e2e.leftovers import left_in_shared_memory
from tests.e2e.world import damage_clips
from verl_care.evaluation.rows import RESPONSES, Row, read_rows
from verl_care.records import jsonl

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3 * START_LIMIT)]

SCRIPT = Path(__file__).parents[2] / "recipes/evaluate/run.sh"
SAMPLES, QUESTIONS = 8, 12  # a level has four questions
SMALL = (
    "care/platform=cpu",
    "data.max_prompt_length=192",
    "data.max_response_length=32",
    "actor_rollout_ref.rollout.max_model_len=256",
    "actor_rollout_ref.rollout.max_num_batched_tokens=2048",
    "actor_rollout_ref.rollout.max_num_seqs=64",
)


class Evaluation(Run):
    """`recipes/evaluate/run.sh CHECKPOINT DATA ...`, as a user types it."""

    data, at_the_kill, until_then = "", b"", 0

    def command(self, *overrides: str) -> list[str]:
        run = f"evaluation.run='{self.folder}'"
        # Two questions at a time and hot sampling: the kill finds some answered, and samples differ.
        small = [*SMALL, "data.val_batch_size=2", "actor_rollout_ref.rollout.val_kwargs.temperature=1.0"]
        samples = [
            f"actor_rollout_ref.rollout.val_kwargs.n={SAMPLES}",
            "actor_rollout_ref.rollout.val_kwargs.top_p=1.0",
        ]
        return [
            "env",
            f"PYTHON={sys.executable}",
            "bash",
            str(SCRIPT),
            str(self.home / "model"),
            self.data,
            run,
            *small,
            *samples,
            *overrides,
        ]

    @property
    def answers(self) -> bytes:
        path = self.folder / RESPONSES
        return path.read_bytes() if path.exists() else b""


@pytest.fixture(scope="module")
def interrupted(home):
    """Killed with SIGKILL, all of its process group, then started again with the same command; and once more."""
    run = Evaluation(home, "evaluation")
    damaged = damage_clips(home, "validation_L1", (0,))
    run.data = ",".join([str(damaged), *(str(home / f"data/validation_{level}.parquet") for level in ("L2", "L3"))])
    try:
        first = run.start()
        deadline = time.monotonic() + START_LIMIT
        while run.answers.count(b"\n") < 2 * SAMPLES and first.poll() is None:
            assert time.monotonic() < deadline, run.log[-4000:]
            time.sleep(0.02)
        assert first.poll() is None, run.log[-4000:]
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
        run.at_the_kill = run.answers.rpartition(b"\n")[0]
        run.finish()
        run.until_then = len(run.log)
        run.finish()
        yield run
    finally:
        run.end()


@pytest.fixture(scope="module")
def rows(interrupted) -> list[Row]:
    return read_rows(interrupted.folder)


def test_each_sample_of_each_question_is_there_once(interrupted, rows):
    assert len(list(jsonl.read(interrupted.folder / RESPONSES))) == len(rows) == SAMPLES * QUESTIONS
    per_question = Counter((row.dataset, row.id) for row in rows)
    assert list(per_question.values()) == [SAMPLES] * QUESTIONS


def test_the_kill_came_in_the_middle_and_nothing_was_asked_again(interrupted):
    assert 0 < interrupted.at_the_kill.count(b"\n") < SAMPLES * QUESTIONS - 1
    assert interrupted.answers.startswith(interrupted.at_the_kill)


def test_a_clip_that_is_gone_is_a_failure_of_its_question_alone(rows):
    failed = [row for row in rows if row.failure is not None]
    assert len(failed) == SAMPLES
    assert {row.id for row in failed} == {failed[0].id}
    assert all(row.failure.startswith("media: ") and "lost_validation_L1_0.mp4" in row.failure for row in failed)


def test_answers_are_what_the_model_said(rows):
    answered = [row for row in rows if row.failure is None]
    assert all(row.response and row.response_tokens and row.finish for row in answered)
    assert sum("<answer>" in (row.response or "") for row in answered) > len(answered) / 2
    assert {row.settings for row in rows} == {rows[0].settings}
    assert all(
        len(row.options) == 4 and row.options[0].startswith("A. ") and "What next" in row.question for row in rows
    )
    assert all(row.tags.keys() >= {"domain", "scenario"} for row in rows if row.dataset == "seed_bench_r1/L3")


def test_samples_are_draws_of_their_own(rows):
    """At temperature 1, over both starts; one seed for all would have made them one."""
    responses: dict[tuple, set] = {}
    for row in rows:
        responses.setdefault((row.dataset, row.id), set()).add(row.response)
    assert sum(len(different) > 1 for different in responses.values()) > QUESTIONS / 3


def test_verls_own_figures_and_ours_are_printed(interrupted):
    log = interrupted.log[: interrupted.until_then]
    assert "val-core/seed_bench_r1/L3/acc/" in log
    assert f"seed_bench_r1/L1: {4 * SAMPLES} of {4 * SAMPLES} responses, {SAMPLES} failed (media)" in log


def test_a_third_start_says_that_nothing_is_left_to_do(interrupted):
    third = interrupted.log[interrupted.until_then :]
    assert "nothing to do" in third
    assert "ray init" not in third


def test_nothing_is_left_in_shared_memory(interrupted):
    assert not left_in_shared_memory(interrupted.shared_memory_before)
