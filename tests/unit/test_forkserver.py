"""A program that stands for the interpreter: what it runs is a fork of a process that has imported already."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from verl_care.platforms.cpu.forked_python import parse
from verl_care.platforms.cpu.forkserver import ForkServer

# A module that nothing imports by itself: whoever has it is a fork of the server.
PRELOADED = "this_is_preloaded"
IS_FORK = f"import sys; print('{PRELOADED}' in sys.modules)"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("a module")
    (folder / f"{PRELOADED}.py").write_text("VALUE = 1\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        server = ForkServer({"FROM_THE_SERVER": "1"}, preload=[PRELOADED])
    yield server
    server.stop()


def run(server: ForkServer, *arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run([server.python, *arguments], capture_output=True, text=True, timeout=50, **options)


def gone(pid: int) -> bool:
    """True as soon as no such process runs; a zombie does not."""
    for _ in range(200):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(
    ("arguments", "program"),
    [
        (["-c", "code", "-x"], ("-c", "code", ["-x"])),
        (["-B", "-X", "dev", "-m", "a.module", "1"], ("-m", "a.module", ["1"])),
        (["-u", "a script.py", "-c"], ("script", "a script.py", ["-c"])),
        (["--version"], None),
        (["-c"], None),
        (["-B"], None),
        (["-"], None),
        ([], None),
    ],
)
def test_which_program(arguments, program):
    assert parse(arguments) == program


def test_it_is_a_fork(server):
    assert run(server, "-c", IS_FORK).stdout == "True\n"


def test_any_other_call_is_the_interpreter_itself(server):
    assert run(server, "--version").stdout == subprocess.check_output([sys.executable, "--version"], text=True)


def test_arguments_folder_and_environment(server, tmp_path):
    code = "import os, sys; print(sys.argv, os.getcwd(), sorted(os.environ))"
    done = run(server, "-c", code, "a b", "é", cwd=tmp_path, env={"ONLY": "this"})
    assert done.stdout.startswith(f"{['-c', 'a b', 'é']} {tmp_path} ")
    assert "'ONLY'" in done.stdout
    assert "FROM_THE_SERVER" not in done.stdout


def test_script_and_module(server, tmp_path):
    (tmp_path / "beside.py").write_text("WHO = 'beside'\n")
    script = tmp_path / "a script.py"
    script.write_text("import sys, beside\nif __name__ == '__main__': print(beside.WHO, sys.argv)\n")
    assert run(server, "-u", str(script), "1").stdout == f"beside {[str(script), '1']}\n"
    assert "-m" not in run(server, "-m", "beside", cwd=tmp_path).stderr


def test_input_output_and_inherited_files(server):
    read, write = os.pipe()
    code = f"import os, sys; os.write({write}, sys.stdin.read().encode()); print('out'); print('err', file=sys.stderr)"
    done = run(server, "-c", code, input="through a pipe", pass_fds=[write])
    os.close(write)
    assert (done.stdout, done.stderr) == ("out\n", "err\n")
    assert os.read(read, 100) == b"through a pipe"
    assert os.read(read, 100) == b"", "somebody still holds the other end"
    os.close(read)


@pytest.mark.parametrize("code", [0, 3, 255])
def test_exit_code(server, code):
    assert run(server, "-c", f"import sys; sys.exit({code})").returncode == code


def test_an_exception_is_told(server):
    done = run(server, "-c", "1 / 0")
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr


def test_a_fork_killed_by_a_signal(server):
    assert run(server, "-c", "import os; os.kill(os.getpid(), 9)").returncode == -signal.SIGKILL


def sleeper(python: Path | str) -> tuple[subprocess.Popen, int]:
    """A fork that sleeps, and its own process id."""
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(300)"
    process = subprocess.Popen([str(python), "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, int(process.stdout.readline())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_to_the_stand_in_ends_its_fork(server, number):
    process, fork = sleeper(server.python)
    process.send_signal(number)
    assert process.wait(20) == -number
    assert gone(fork)


def test_a_fork_and_who_asked_for_it_end_together(server):
    # stopped, the server sees both ends in one look
    for _ in range(5):
        process, fork = sleeper(server.python)
        os.kill(server._process.pid, signal.SIGSTOP)
        os.kill(fork, signal.SIGKILL)
        process.kill()
        process.wait()
        os.kill(server._process.pid, signal.SIGCONT)
        assert gone(fork)
    assert run(server, "-c", IS_FORK).stdout == "True\n"


def test_one_that_is_killed_before_it_is_answered(server):
    os.kill(server._process.pid, signal.SIGSTOP)
    asking = subprocess.Popen([str(server.python), "-c", "pass"])
    waits = 0
    while waits < 3:  # asleep three times in a row: its request is sent, and it waits for the answer
        time.sleep(0.1)
        asleep = Path(f"/proc/{asking.pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"
        waits = waits + 1 if asleep and "forked_python" in Path(f"/proc/{asking.pid}/cmdline").read_text() else 0
    asking.kill()
    asking.wait()
    os.kill(server._process.pid, signal.SIGCONT)
    assert run(server, "-c", IS_FORK).stdout == "True\n"


def test_its_own_children_are_forks_too(server, tmp_path):
    script = tmp_path / "spawns.py"
    script.write_text(
        "import multiprocessing, sys\n"
        f"def child(): print('{PRELOADED}' in sys.modules)\n"
        "if __name__ == '__main__':\n"
        "    process = multiprocessing.get_context('spawn').Process(target=child)\n"
        "    process.start(); process.join(); print(process.exitcode)\n"
    )
    assert run(server, str(script)).stdout == "True\n0\n"


def test_forks_end_with_the_server():
    server = ForkServer({}, preload=[])
    process, fork = sleeper(server.python)
    server.stop()
    assert gone(fork)
    assert process.wait(20) != 0
    assert not server.python.exists()


def test_a_temporary_folder_far_down(tmp_path, monkeypatch):
    folder = tmp_path / ("a" * 60) / ("b" * 60)
    folder.mkdir(parents=True)
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    server = ForkServer({}, preload=[])
    assert run(server, "-c", "print(1)").stdout == "1\n"
    server.stop()


def test_the_server_ends_with_who_started_it():
    code = (
        "from verl_care.platforms.cpu.forkserver import ForkServer\nimport time\n"
        "server = ForkServer({}, preload=[])\nprint(server._process.pid, server.python, flush=True)\ntime.sleep(300)"
    )
    starter = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    server, python = starter.stdout.readline().split()
    process, fork = sleeper(python)
    starter.kill()
    starter.wait()
    assert gone(int(server))
    assert gone(fork)
    assert process.wait(20) != 0


def test_what_is_imported_early_does_not_import_ray():
    # Ray's core would keep the server's identity, and every worker forked from it would have none
    code = (
        "import importlib, sys\nfrom verl_care.platforms.cpu.forkserver import PRELOAD\n"
        "for module in PRELOAD: importlib.import_module(module)\n"
        "print([name for name in ('ray', 'verl') if name in sys.modules])\n"
        "from vllm.platforms import current_platform\nprint(current_platform.is_cpu())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200)
    assert done.stdout.splitlines()[-2:] == ["[]", "True"], done.stderr
