"""Stands for Ray's `setup_worker.py`, the program that makes of a new process the worker that a job asks for.

Ray 2.60's own imports Ray for it, about 2 s of a core, and a run of verl starts a dozen workers, most of them one after
the other. What verl asks for is a few environment variables and an interpreter, which needs none of Ray. Anything more
is left to Ray's own program.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from typing import NamedTuple

_LANGUAGE, _CONTEXT = "--language=", "--serialized-runtime-env-context="


class Worker(NamedTuple):
    """The program of a worker, and the variables to set before it."""

    command: list[str]
    variables: dict[str, str]


def plain(arguments: list[str]) -> Worker | None:
    """What Ray's own program would start with these arguments; None where it would do more than that.

    Args:
        arguments: the worker's script, its options, and those of `setup_worker.py`.
    """
    rest = [word for word in arguments if not word.startswith((_LANGUAGE, _CONTEXT))]
    language = [word.removeprefix(_LANGUAGE) for word in arguments if word.startswith(_LANGUAGE)]
    asked = [json.loads(word.removeprefix(_CONTEXT)) for word in arguments if word.startswith(_CONTEXT)]
    if language != ["PYTHON"] or len(asked) != 1:
        return None
    variables, python = asked[0].pop("env_vars", {}), asked[0].pop("py_executable", None)
    if any(asked[0].values()) or not python or any("$" in value for value in variables.values()):
        return None  # a shell command in front, another script, a variable that names others
    return Worker([*shlex.split(python), *rest], variables)


def use() -> None:
    """Have the node that this process will start begin its workers with this program."""
    from ray._private import ray_constants

    ray_constants.SETUP_WORKER_FILENAME = os.path.abspath(__file__)  # node.py:163 joins it to its folder


def main(arguments: list[str]) -> None:
    worker = plain(arguments)
    if worker is None:
        own = os.path.join(os.path.dirname(arguments[0]), "setup_worker.py")  # beside Ray's worker
        os.execv(sys.executable, [sys.executable, own, *arguments])
    os.execvpe(worker.command[0], worker.command, {**os.environ, **worker.variables})


if __name__ == "__main__":
    main(sys.argv[1:])
