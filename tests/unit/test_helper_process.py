"""The helper is ended when it takes too long, started anew when it died, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from verl_care.processes.helper import HelperDied, HelperNotStarted, HelperProcess, HelperTimedOut

MODULE = "tests.unit.hostile_helper"


@pytest.fixture
def helper():
    helper = HelperProcess(MODULE, seconds=0.5)
    yield helper
    helper.close()


def test_one_process_answers_many_questions(helper):
    questions = ["a", "\ud800", "\n", "x" * 1_000_000, None]
    assert [helper.ask(question) for question in questions] == questions
    assert helper.ask("pid") == helper.ask("pid")


def test_what_hangs_is_ended_and_the_next_question_answered(helper):
    before = helper.ask("pid")
    with pytest.raises(HelperTimedOut, match=r"no answer in 0\.5 s"):
        helper.ask("hang")
    assert not psutil.pid_exists(before)
    assert helper.ask("a") == "a"


@pytest.mark.parametrize(
    ("question", "reason"), [("crash", "SIGSEGV"), ("exit", "exit status 3"), ("raise", "KeyError: 'what was not")]
)
def test_what_dies_says_how(helper, question, reason):
    helper.ask("a")
    with pytest.raises(HelperDied, match=reason):
        helper.ask(question)
    assert helper.ask("a") == "a"


def test_memory_is_bounded(helper):
    with pytest.raises(HelperDied, match="MemoryError"):
        helper.ask("eat")


def test_chatter_is_no_answer(helper):
    assert helper.ask("print") == "print"
    assert helper.ask("a") == "a"


def test_a_death_between_two_questions_is_not_held_against_the_second(helper):
    os.kill(helper.ask("pid"), signal.SIGKILL)
    assert helper.ask("a") == "a"


def test_the_last_words_are_those_of_this_question(helper):
    helper.ask("print")
    with pytest.raises(HelperDied) as caught:
        helper.ask("crash")
    assert str(caught.value) == "SIGSEGV"


def test_a_module_that_does_not_start_is_named():
    helper = HelperProcess("tests.unit.nobody", seconds=1)
    with pytest.raises(HelperNotStarted, match=r"python.* -m tests\.unit\.nobody` does not start.*No module named"):
        helper.ask("a")
    helper.close()


def test_threads_take_turns(helper):
    answers = []
    threads = [threading.Thread(target=lambda n=n: answers.append(helper.ask(n))) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == list(range(8))


def test_a_thread_that_blocks_signals_has_a_time_limit_too():
    helper = HelperProcess(MODULE, seconds=0.5)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    try:
        helper.ask("a")
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    process = helper._process
    assert process is not None
    with pytest.raises(HelperTimedOut):
        helper.ask("hang")
    assert process.returncode == -signal.SIGALRM  # its own alarm, not our kill
    helper.close()


def test_closing_ends_a_question_under_way():
    helper = HelperProcess(MODULE, seconds=100)
    pid, caught = helper.ask("pid"), []

    def asker():
        try:
            helper.ask("hang")
        except HelperDied as error:
            caught.append(error)

    thread = threading.Thread(target=asker)
    thread.start()
    time.sleep(0.2)
    helper.close()
    thread.join(timeout=30)
    assert not psutil.pid_exists(pid)
    assert len(caught) == 1
    with pytest.raises(HelperDied, match="closed"):
        helper.ask("a")


@pytest.mark.parametrize("question", ["pid", "hang"])
def test_nothing_outlives_a_parent_that_is_killed(question):
    """An idle helper notices that nobody asks any more; one that hangs still has its alarm."""
    program = (
        f"from verl_care.processes.helper import HelperProcess; helper = HelperProcess({MODULE!r}, seconds=3)\n"
        f"print(helper.ask('pid'), flush=True); helper.ask({question!r}); input()"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    helper = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate()
    psutil.wait_procs([helper], timeout=60)
    assert not helper.is_running() or helper.status() == psutil.STATUS_ZOMBIE
