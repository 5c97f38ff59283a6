"""The process group where there is no accelerator."""

import pytest
from torch import distributed

from verl_care import platforms

if not platforms.wants_cpu():
    pytest.skip("the platform without an accelerator is not loaded beside one", allow_module_level=True)

from verl_care.platforms.cpu import platform


def test_its_one_device_is_named_once(monkeypatch):
    groups = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(distributed, "is_initialized", lambda: False)
    monkeypatch.setattr(distributed, "init_process_group", lambda **options: groups.append(options))
    platform._init_process_group()
    assert [(group["backend"], group["world_size"]) for group in groups] == [("cpu:gloo", 2)]
