"""platforms.cpu.ray_worker against Ray's own `setup_worker.py`: the same arguments make the same process."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import ray
from ray._private import node, ray_constants

from tests.contract.seams import in_order, source
from verl_care.platforms.cpu import ray_worker

WORKERS = Path(ray.__file__).parent / "_private" / "workers"
OPTIONS = ["--node-ip-address=1.2.3.4", "--webui=", "--temp-dir=/a folder/it's", "--language=PYTHON"]
SAYS_WHO_IT_IS = "import json, os, sys; print(json.dumps([sys.argv, os.getcwd(), dict(os.environ)]))\n"
ASKED = {"command_prefix": [], "env_vars": {}, "py_executable": "", "override_worker_entrypoint": None, "java_jars": []}


@pytest.fixture
def folder(tmp_path):
    """Ray's folder of workers, with a worker in it that says how it was started."""
    (tmp_path / "default_worker.py").write_text(SAYS_WHO_IT_IS)
    (tmp_path / "setup_worker.py").symlink_to(WORKERS / "setup_worker.py")
    return tmp_path


def started_by(program: Path | str, folder: Path, context: dict) -> list:
    options = [*OPTIONS, f"--serialized-runtime-env-context={json.dumps(context)}"]
    command = [sys.executable, str(program), str(folder / "default_worker.py"), *options]
    environment = {**os.environ, "A": "1"}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, env=environment)
    assert done.returncode == 0, done.stderr
    arguments, place, variables = json.loads(done.stdout)
    for of_the_shell in ("_", "SHLVL", "PWD", "OLDPWD"):  # Ray's own goes through bash
        variables.pop(of_the_shell, None)
    return [arguments, place, variables]


@pytest.mark.parametrize(
    ("asked", "is_plain"),
    [
        ({"env_vars": {"A": "b c", "EMPTY": "", "QUOTED": "it's"}}, True),
        ({"py_executable": f"{shlex.quote(sys.executable)} -X dev"}, True),
        ({"env_vars": {"A": "${A}2", "B": "$A"}}, False),
        ({"command_prefix": ["cd", "/", "&&"]}, False),
    ],
    ids=["variables", "an interpreter with options", "variables that name others", "a command in front"],
)
def test_the_same_process(folder, asked, is_plain):
    context = {**ASKED, "py_executable": shlex.quote(sys.executable), **asked}
    ours = started_by(ray_worker.__file__, folder, context)
    assert ours == started_by(folder / "setup_worker.py", folder, context)
    assert ours[2]["A"] == asked.get("env_vars", {}).get("A", "1").replace("${A}", "1")
    arguments = [*OPTIONS, f"--serialized-runtime-env-context={json.dumps(context)}"]
    assert (ray_worker.plain(["worker.py", *arguments]) is not None) == is_plain


@pytest.mark.parametrize(
    "arguments",
    [
        ["worker.py"],
        ["worker.py", "--language=PYTHON"],
        ["worker.py", "--language=JAVA", "--serialized-runtime-env-context={}"],
        ["worker.py", "--language=PYTHON", "--serialized-runtime-env-context={}"],
    ],
)
def test_no_interpreter_or_another_language_is_left_to_ray(arguments):
    assert ray_worker.plain(arguments) is None


def test_ray_is_told(monkeypatch):
    monkeypatch.setattr(ray_constants, "SETUP_WORKER_FILENAME", ray_constants.SETUP_WORKER_FILENAME)
    assert (WORKERS / ray_constants.SETUP_WORKER_FILENAME).is_file()
    ray_worker.use()
    assert os.path.join(WORKERS, ray_constants.SETUP_WORKER_FILENAME) == ray_worker.__file__
    joined = source(node.Node.__init__)
    assert in_order(joined, "setup_worker_path=os.path.join(", "ray_constants.SETUP_WORKER_FILENAME")
