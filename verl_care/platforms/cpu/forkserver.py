"""Forks the processes of a CPU run from one that has imported what they need.

A run of verl 0.9.1 is about ten Python processes, started one after the other, and each imports torch, verl and vLLM
for 8 to 20 s on one core. Here one process imports them once; the others are forks of it, which start at once and
share its memory. It is `multiprocessing`'s fork server for processes that somebody else starts: Ray through
`runtime_env.py_executable`, and vLLM through `multiprocessing.set_executable`, both run the program that `start`
returns. It stands for the interpreter (see `forked_python.py`).

The server starts no thread (a few libraries have idle ones), so forking it is safe. It imports neither Ray nor verl,
which imports it: Ray's core reads who it is, its job and its node, from the environment when it is loaded. The server
ends with the process that started it, and its forks end with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import multiprocessing
import os
import runpy
import selectors
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from verl_care.platforms.cpu import forked_python

# In the order in which a run needs them; between two of them the server answers who has come meanwhile.
PRELOAD = (
    "tensordict",
    "transformers",
    "pandas",
    "datasets",
    "peft",
    "verl_care.platforms.cpu.vllm",
    "vllm.entrypoints.openai.api_server",
    "vllm.v1.worker.cpu_worker",
    "vllm.model_executor.models.qwen2_5_vl",
)
_PR_SET_PDEATHSIG = 1
_LONGEST_PLACE = 80
"""A socket's address has 107 bytes on Linux, and 103 on others."""


class ForkServer:
    """The server, seen from the process that starts it."""

    def __init__(self, env: Mapping[str, str], preload: Sequence[str] = PRELOAD):
        """Start it, with `env` on top of this process' environment; it serves from now on, and imports meanwhile."""
        self._folder = Path(tempfile.mkdtemp(prefix="verl_care-", dir=_place_of_sockets()))
        address = self._folder / "socket"
        self.python = self._folder / "python"
        program = shlex.join([sys.executable, "-I", forked_python.__file__, str(address)])
        self.python.write_text(f'#!/bin/sh\nexec {program} "$@"\n')
        self.python.chmod(0o700)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(address))
        listener.listen(64)
        command = [sys.executable, "-m", __name__, str(listener.fileno()), str(self.python), str(os.getpid()), *preload]
        self._process = subprocess.Popen(command, env={**os.environ, **env}, pass_fds=[listener.fileno()])
        listener.close()

    def stop(self) -> None:
        """End it and every fork of it that still runs."""
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


def _place_of_sockets() -> str:
    """Where temporary files are, unless no address fits behind that path: Ray's sockets are in /tmp as well."""
    place = tempfile.gettempdir()
    return place if len(os.fsencode(place)) <= _LONGEST_PLACE else "/tmp"


@dataclass
class Request:
    """What one interpreter is asked to run, and with what."""

    arguments: list[str]
    environment: dict[str, str]
    folder: str
    group: int
    numbers: list[int]
    descriptors: list[int]

    def take_over(self, python: str) -> None:
        """Make this fork the process that was asked for."""
        os.setpgid(0, self.group)
        high = max([*self.numbers, *self.descriptors]) + 1  # out of the way of the numbers they are to have
        for place, descriptor in enumerate(self.descriptors):
            os.dup2(descriptor, high + place)
            os.close(descriptor)
        for place, number in enumerate(self.numbers):
            os.dup2(high + place, number)
            os.close(high + place)
        os.environ.clear()
        os.environ.update(self.environment)
        os.chdir(self.folder)
        multiprocessing.set_executable(python)
        _as_if_just_started()

    def run(self) -> None:
        """Run the program in this process: `-c code`, `-m module` or a script."""
        forked = forked_python.parse(self.arguments)
        assert forked is not None  # the other side has looked
        kind, what, rest = forked
        sys.argv = [what if kind == "script" else kind, *rest]
        sys.path[0] = os.path.dirname(os.path.abspath(what)) if kind == "script" else ""
        if kind == "-c":
            main = sys.modules["__main__"] = ModuleType("__main__")
            exec(compile(what, "<string>", "exec"), main.__dict__)
        elif kind == "-m":
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(what, run_name="__main__")


_LISTENER, _FORK = "listener", "fork"
"""What a file of the server is. Any other is the connection of who asked for a fork, and known by the fork's pidfd."""


def _connections_first(key: selectors.SelectorKey) -> int:
    """A fork and who asked for it can end together, and the connection is known only as long as the fork is."""
    return {_FORK: 1, _LISTENER: 2}.get(key.data, 0)


class _Server:
    def __init__(self, listener: socket.socket, python: str):
        self._listener, self._python = listener, python
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ, _LISTENER)
        self._forks: dict[int, tuple[int, socket.socket]] = {}  # by pidfd: process id, and who waits for its end

    def answer(self, timeout: float | None) -> Request | None:
        """Serve what has come; in a fork, return its request."""
        for key in sorted((key for key, _ in self._selector.select(timeout)), key=_connections_first):
            if key.data is _LISTENER:
                request = self._fork(self._listener.accept()[0])
                if request is not None:
                    return request
            elif key.data is _FORK:
                self._has_ended(key.fd)
            else:  # who asked for a fork is gone, or was never to say anything more: so is its fork
                pid, _ = self._forks[key.data]
                os.kill(pid, signal.SIGKILL)
                self._selector.unregister(key.fileobj)
        return None

    def _fork(self, connection: socket.socket) -> Request | None:
        connection.settimeout(10)
        try:
            message, descriptors = forked_python.receive(connection)
        except (OSError, ValueError):  # whoever it was has gone away in the middle
            connection.close()
            return None
        connection.settimeout(None)
        server = os.getpid()
        pid = os.fork()
        if pid == 0:
            _end_with(server)
            self._selector.close()
            for pidfd, (_, other) in self._forks.items():
                os.close(pidfd)
                other.close()
            self._listener.close()
            connection.close()
            request = Request(**json.loads(message), descriptors=descriptors)
            request.take_over(self._python)
            return request
        for descriptor in descriptors:
            os.close(descriptor)
        pidfd = os.pidfd_open(pid)
        self._forks[pidfd] = pid, connection
        self._selector.register(pidfd, selectors.EVENT_READ, _FORK)
        self._selector.register(connection, selectors.EVENT_READ, pidfd)
        with contextlib.suppress(OSError):  # killed while the server imported: its end of the connection says so
            connection.sendall(f"{pid}\n".encode())
        return None

    def _has_ended(self, pidfd: int) -> None:
        pid, connection = self._forks.pop(pidfd)
        _, status = os.waitpid(pid, 0)
        self._selector.unregister(pidfd)
        os.close(pidfd)
        if connection in self._selector.get_map():
            self._selector.unregister(connection)
            with contextlib.suppress(OSError):  # it has gone away as well
                connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
        connection.close()


def _end_with(parent: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before that call
        os._exit(1)


def _as_if_just_started() -> None:
    """What an interpreter reads when it starts, or a library when it is imported, and forks must read anew."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if numpy is not None:
        numpy.random.seed()
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if torch is not None and threads.isdecimal():
        torch.set_num_threads(int(threads))


def serve(listener: socket.socket, python: str, preload: Sequence[str]) -> Request:
    """Import and fork, for ever. Only a fork returns."""
    server = _Server(listener, python)
    for module in preload:
        importlib.import_module(module)
        request = server.answer(timeout=0)
        if request is not None:
            return request
    gc.collect()
    gc.freeze()  # a collection in a fork would otherwise write to, and so copy, all that it shares
    while True:
        request = server.answer(timeout=None)
        if request is not None:
            return request


def _main(listener: str, python: str, parent: str, *preload: str) -> None:
    _end_with(int(parent))
    serve(socket.socket(fileno=int(listener)), python, preload).run()


if __name__ == "__main__":
    _main(*sys.argv[1:])
