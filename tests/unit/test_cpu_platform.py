"""Threads of a rank where there is no accelerator."""

import os

import pytest
import torch
from torch import distributed

from verl_care import platforms

if not platforms.wants_cpu():
    pytest.skip("the platform without an accelerator is not loaded beside one", allow_module_level=True)

from verl_care.platforms.cpu import platform


@pytest.mark.parametrize(
    ("cores", "ranks", "threads"),
    [
        ({0, 1, 2, 3}, "1", 4),
        ({5}, "1", 1),  # a run bound to one core of many: 1 / 1
        ({0, 1, 2, 3}, "2", 2),  # 4 / 2
        ({0, 1, 2}, "2", 1),  # 3 / 2, rounded down
        ({0}, "2", 1),  # never 0
    ],
)
def test_ranks_share_the_cores_that_they_may_run_on(monkeypatch, cores, ranks, threads):
    set_to, groups = [], []
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: cores)
    monkeypatch.setenv("WORLD_SIZE", ranks)
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)
    monkeypatch.setattr(distributed, "is_initialized", lambda: False)
    monkeypatch.setattr(distributed, "init_process_group", lambda **options: groups.append(options["world_size"]))
    platform._init_process_group()
    assert (set_to, groups) == ([threads], [int(ranks)])
