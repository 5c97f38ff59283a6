"""Stands for the Python interpreter: hands its command to the fork server (`forkserver.py`) and waits for the end.

It runs with `python -I` and imports nothing but the standard library, so that it costs milliseconds.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import sys

_FLAGS = frozenset({"-B", "-E", "-I", "-O", "-OO", "-q", "-s", "-S", "-u", "-v"})
_FLAGS_WITH_VALUE = frozenset({"-W", "-X"})
_LENGTH = struct.Struct("!Q")
_DESCRIPTORS = 250  # Linux passes at most 253 with a message


def parse(arguments: list[str]) -> tuple[str, str, list[str]] | None:
    """Which program an interpreter's arguments name.

    Returns:
        ("-c", code, its arguments), ("-m", module, ...), ("script", path, ...), or None for any other call.
    """
    rest = list(arguments)
    while rest and rest[0] in _FLAGS | _FLAGS_WITH_VALUE:
        del rest[: 2 if rest[0] in _FLAGS_WITH_VALUE else 1]
    if not rest:
        return None
    if rest[0] in ("-c", "-m"):
        return (rest[0], rest[1], rest[2:]) if len(rest) > 1 else None
    return None if rest[0].startswith("-") else ("script", rest[0], rest[1:])


def send(connection: socket.socket, message: bytes, descriptors: list[int]) -> None:
    """A message with its length in front, and open files."""
    socket.send_fds(connection, [_LENGTH.pack(len(message))], descriptors)
    connection.sendall(message)


def receive(connection: socket.socket) -> tuple[bytes, list[int]]:
    """What `send` sent.

    Raises:
        ValueError: if the other side ended in the middle.
    """
    head, descriptors, _, _ = socket.recv_fds(connection, _LENGTH.size, _DESCRIPTORS)
    if len(head) < _LENGTH.size:
        raise ValueError("ended before its length")
    (wanted,) = _LENGTH.unpack(head)
    message = bytearray()
    while len(message) < wanted:
        part = connection.recv(min(wanted - len(message), 1 << 16))
        if not part:
            raise ValueError("ended in the middle")
        message += part
    return bytes(message), descriptors


def _open_files() -> list[int]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            os.fstat(int(name))
        except OSError:  # the one that listed the folder
            continue
        found.append(int(name))
    return sorted(found)


def main(address: str, arguments: list[str]) -> None:
    """Have the server run this command, be killed as it would be, and end as it ends."""
    if parse(arguments) is None:
        os.execv(sys.executable, [sys.executable, *arguments])
    descriptors = _open_files()
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(address)
    request = {
        "arguments": arguments,
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "group": os.getpgid(0),
        "numbers": descriptors,
    }
    send(connection, json.dumps(request).encode(), descriptors)
    for descriptor in descriptors:
        if descriptor != 2:
            os.close(descriptor)  # the fork has them; a pipe must end when the fork ends
    with connection.makefile() as answers:
        pid = int(answers.readline())
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, lambda number, _frame: os.kill(pid, number))
        last = answers.readline()
    code = int(last) if last else 1
    if code < 0:  # ended by a signal: so is this
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
