"""How many threads a rank takes for what it computes in host memory."""

import os

import pytest
import torch

from verl_care import workers


@pytest.mark.parametrize(
    ("had", "cores", "ranks", "threads"),
    [
        (1, 96, "8", 12),  # as Ray leaves it
        (1, 96, None, 96),
        (1, 4, "8", 1),  # fewer cores than ranks
        (6, 96, "8", 6),  # the user's OMP_NUM_THREADS
    ],
)
def test_the_ranks_of_a_node_share_its_cores(monkeypatch, had, cores, ranks, threads):
    taken = [had]
    monkeypatch.setattr(torch, "get_num_threads", lambda: had)
    monkeypatch.setattr(torch, "set_num_threads", taken.append)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    monkeypatch.delenv("RAY_LOCAL_WORLD_SIZE", raising=False)
    if ranks:
        monkeypatch.setenv("RAY_LOCAL_WORLD_SIZE", ranks)
    workers._share_cores()
    assert taken[-1] == threads
