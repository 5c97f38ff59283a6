"""A weight sync that never comes back ends the run, with a reason."""

from __future__ import annotations

import threading

import pytest

from verl_care.processes.time_limit import within


def test_what_comes_back_in_time_has_run():
    done = []
    within(30, "the sync", lambda: done.append(1))
    assert done == [1]


def test_an_error_is_the_callers():
    with pytest.raises(ZeroDivisionError):
        within(30, "the sync", lambda: 1 / 0)  # type: ignore[arg-type]


def test_what_never_comes_back_is_named():
    never = threading.Event()

    def sync() -> None:
        never.wait()

    with pytest.raises(TimeoutError, match=r"sync of step 7 has not returned for 0 s.*weight_sync_timeout_s"):
        within(0.05, "the weight sync of step 7", sync)
    # and the process can end all the same
    left = [thread.daemon for thread in threading.enumerate() if thread.name == "the weight sync of step 7"]
    assert left == [True]
    never.set()
