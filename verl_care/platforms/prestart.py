"""Starts, early and side by side, the processes that verl 0.9.1 starts one after the other.

Each imports for ten seconds and more, most of the time on one core while the others idle. Ray gives an actor
an idle process of the same job and environment where there is one; these tasks leave such processes behind.
Nothing depends on it: without them, or where Ray ends them, verl starts its own.
"""

from __future__ import annotations

import importlib
from typing import Any

import ray
from verl.plugin.platform import get_platform


def prestart() -> list[ray.ObjectRef]:
    """One process for vLLM's server, and one each for load balancer, reward loop and rollout loop."""
    platform = get_platform()
    # An actor gets a process of just its environment: vllm_async_server.py:1372 sets these.
    server_environment = dict.fromkeys(platform.ray_noset_envvars(), "1") | platform.rollout_env_vars()
    imports: Any = _import.options(runtime_env={"env_vars": server_environment})
    return [
        imports.remote("verl.workers.rollout.vllm_rollout.vllm_async_server"),
        _import.remote("verl.workers.rollout.router"),
        _import.remote("verl.trainer.ppo.v1"),
        _import.remote("verl.experimental.reward_loop"),
    ]


@ray.remote(num_cpus=0)
def _import(module: str) -> None:
    importlib.import_module(module)
