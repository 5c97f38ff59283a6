"""Which interpreter Ray starts its workers with.

`runtime_env.py_executable` says it, where it is set. Otherwise Ray 2.60 takes its own, which is right unless the path
of it holds a space (it goes into a shell command as it is), or a fork server shall stand for it. Ray calls what the
variable `RAY_RUNTIME_ENV_HOOK` names when a driver initializes it, and that is the way in.
"""

from __future__ import annotations

import os
import shlex
from typing import Any

HOOK = "RAY_RUNTIME_ENV_HOOK"
_chosen: list[str] = []
_earlier_hooks: list[str] = []


def choose(python: str) -> None:
    """Start the workers of this process' Ray with `python`."""
    ours = f"{__name__}.{add_to.__name__}"
    if os.environ.get(HOOK, ours) != ours:
        _earlier_hooks.append(os.environ[HOOK])
    os.environ[HOOK] = ours
    _chosen[:] = [python]


def add_to(runtime_env: dict[str, Any] | None) -> dict[str, Any]:
    """Ray's hook: a job's runtime environment with the interpreter; a hook that was there before is called first."""
    from ray._common.utils import load_class  # as ray.init does

    for hook in _earlier_hooks:
        runtime_env = load_class(hook)(runtime_env)
    runtime_env = dict(runtime_env or {})
    if not runtime_env.get("py_executable"):
        runtime_env["py_executable"] = shlex.quote(_chosen[0])
    return runtime_env
