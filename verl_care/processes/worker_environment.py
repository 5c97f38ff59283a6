"""What Ray starts a run's workers with: which interpreter, and the variables that our configurations read.

The interpreter is `runtime_env.py_executable`, where it is set. Otherwise Ray 2.60 takes its own, which is right unless
the path of it holds a space (it goes into a shell command as it is), or a fork server shall stand for it.

The variables: verl resolves a configuration in a worker, and a worker of a Ray that was started beforehand (several
nodes, `ray start`) has the environment of that start. `${oc.env:VERL_CARE_DATA}` would be another than in the checks.

Ray calls what the variable `RAY_RUNTIME_ENV_HOOK` names when a driver initializes it, and that is the way in. (Under
`uv run` it calls its own hook instead.)
"""

from __future__ import annotations

import os
import shlex
from typing import Any

HOOK = "RAY_RUNTIME_ENV_HOOK"
OURS = "VERL_CARE_"
_python: list[str] = []
_earlier_hooks: list[str] = []


def hand_on(python: str | None = None) -> None:
    """Start the workers of this process' Ray with `python`, None for Ray's own choice, and with our variables."""
    ours = f"{__name__}.{add_to.__name__}"
    if os.environ.get(HOOK, ours) != ours:
        _earlier_hooks.append(os.environ[HOOK])
    os.environ[HOOK] = ours
    _python[:] = [python] if python else []


def add_to(runtime_env: dict[str, Any] | None) -> dict[str, Any]:
    """Ray's hook: a job's runtime environment with both; a hook that was there before is called first. What the job
    says itself stays."""
    from ray._common.utils import load_class  # as ray.init does

    for hook in _earlier_hooks:
        runtime_env = load_class(hook)(runtime_env)
    runtime_env = dict(runtime_env or {})
    if _python and not runtime_env.get("py_executable"):
        runtime_env["py_executable"] = shlex.quote(_python[0])
    ours = {name: value for name, value in os.environ.items() if name.startswith(OURS)}
    if ours:
        runtime_env["env_vars"] = ours | dict(runtime_env.get("env_vars") or {})
    return runtime_env
