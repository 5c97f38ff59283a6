"""How many threads a rank takes for what it computes in host memory."""

import os

import pytest
import torch

from verl_care import workers


@pytest.mark.parametrize(
    ("omp", "cores", "ranks", "threads"),
    [
        ("1", 96, "8", 12),  # as Ray leaves it: 96 / 8
        ("1", 96, None, 96),
        ("1", 3, "2", 1),  # rounded down
        ("1", 4, "8", 1),  # fewer cores than ranks: never 0
        ("1", 1, "1", 1),  # a run bound to one core of many
        (None, 4, "2", 2),  # no actor of Ray's: 4 / 2
    ],
)
def test_the_ranks_of_a_node_share_the_cores_that_they_may_run_on(monkeypatch, omp, cores, ranks, threads):
    assert set_by(monkeypatch, omp, cores, ranks) == [threads]


def test_the_users_omp_num_threads_stays(monkeypatch):
    assert set_by(monkeypatch, "6", 96, "8") == []


def test_a_fork_gives_back_the_threads_of_its_server(monkeypatch):
    """It imported torch before Ray said one thread."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert set_by(monkeypatch, "1", 4, "2") == [2]


@pytest.mark.parametrize(("threads", "bound", "taken"), [(96, 48, [48]), (12, 48, []), (48, 48, [])])
def test_a_rank_bound_to_half_of_the_cores_has_no_more_threads_than_they_are(monkeypatch, threads, bound, taken):
    found = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(torch, "set_num_threads", found.append)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(bound)))
    workers._keep_to_bound_cores()
    assert found == taken


def set_by(monkeypatch, omp, cores, ranks):
    taken = []
    monkeypatch.setattr(torch, "set_num_threads", taken.append)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    for name, value in (("OMP_NUM_THREADS", omp), ("RAY_LOCAL_WORLD_SIZE", ranks)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    workers._share_cores()
    return taken
