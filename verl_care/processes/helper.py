"""A helper process for work on hostile input: one question at a time, answered within its time or ended.

A decoder that hangs in C, or a formula that takes years to simplify, cannot be stopped from a thread of the same
process, and a decoder that dies takes its process along. So such work is done in a process of its own:

    helper = HelperProcess("data_prep.media_worker", seconds=60)
    verdict = helper.ask({"kind": "video", "path": "clip.mp4"})

where that module's `__main__` calls `serve(function)`. Questions and answers are lines of JSON. The time limit is the
kernel's alarm in the helper itself, so it also holds when this process is killed meanwhile: nothing is left behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

_START_SECONDS = 300.0  # to import what it needs, on a slow and busy disk
_GRACE_SECONDS = 5.0  # between the helper's own alarm and the kill from here


class HelperError(RuntimeError):
    """A question that got no answer. The helper is gone; the next question starts a new one."""


class HelperNotStarted(RuntimeError):
    """The helper's imports fail: no question's fault, and no other question would fare better."""


class HelperTimedOut(HelperError):
    """The helper was ended because the question took longer than its time."""


class HelperDied(HelperError):
    """The helper ended by itself; the message has the signal or exit status and its last words."""


class HelperProcess:
    """Starts when first asked, and again after it had to be ended. Askers from several threads take turns."""

    def __init__(self, module: str, seconds: float):
        """Args:
        module: what `python -m` runs; it must call `serve`.
        seconds: for one question; starting up is not counted.
        """
        self._module, self._seconds = module, seconds
        self._lock = threading.Lock()
        self._closed = False
        self._process: subprocess.Popen[bytes] | None = None
        self._last_words = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the helper
        self._unread = b""

    def ask(self, question: Any) -> Any:
        """The helper's answer to a question, both as JSON can say them.

        Raises:
            HelperTimedOut: after `seconds`.
            HelperDied: if the helper ends without an answer, also in a fresh process.
            HelperNotStarted: if it does not come so far as to read a question.
        """
        with self._lock:
            used = self._process is not None
            try:
                return self._answer(question)
            except HelperDied:
                if not used or self._closed:
                    raise
                # Killed since, or harmed by an earlier question: held against this one only if it happens again.
                return self._answer(question)

    def close(self) -> None:
        """End the helper for good, even in the middle of a question (which then raises `HelperDied`)."""
        self._closed = True
        if process := self._process:
            process.kill()
        with self._lock:  # until whoever asks has noticed
            if process := self._process:
                process.kill()
                process.wait()
                self._forget(process)
            self._last_words.close()

    def _answer(self, question: Any) -> Any:
        process = self._running()
        self._forget_words()
        line = json.dumps({"seconds": self._seconds, "question": question}).encode() + b"\n"
        assert process.stdin is not None
        try:
            process.stdin.write(line)
            process.stdin.flush()
        except BrokenPipeError:
            raise self._ended(process, self._seconds) from None
        return json.loads(self._line(process, self._seconds))

    def _running(self) -> subprocess.Popen[bytes]:
        if self._closed:
            raise HelperDied("closed")
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._unread = b""
        self._forget_words()
        self._process = subprocess.Popen(
            [sys.executable, "-m", self._module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._last_words,
            start_new_session=True,  # a Ctrl-C in the terminal is for us, and we end it
        )
        try:
            self._line(self._process, _START_SECONDS)
        except HelperError as error:
            raise HelperNotStarted(f"`{sys.executable} -m {self._module}` does not start: {error}") from error
        return self._process

    def _line(self, process: subprocess.Popen[bytes], seconds: float) -> bytes:
        """The next line it writes; the process is ended if none comes."""
        assert process.stdout is not None
        output = process.stdout.fileno()
        poll = select.poll()  # `select.select` refuses descriptors from 1024 on
        poll.register(output, select.POLLIN)
        deadline = time.monotonic() + seconds + _GRACE_SECONDS
        while b"\n" not in self._unread:
            left = deadline - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                process.kill()
                self._forget(process)
                raise HelperTimedOut(f"no answer in {seconds:g} s")
            piece = os.read(output, 65536)
            if not piece:
                raise self._ended(process, seconds)
            self._unread += piece
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _ended(self, process: subprocess.Popen[bytes], seconds: float) -> HelperError:
        status = process.wait()
        self._forget(process)
        if status == -signal.SIGALRM:
            return HelperTimedOut(f"no answer in {seconds:g} s")
        how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        self._last_words.seek(0)
        words = self._last_words.read().decode(errors="replace").split("\n")
        last = next((word.strip() for word in reversed(words) if word.strip()), "")
        return HelperDied(f"{how}: {last[:500]}" if last else how)

    def _forget_words(self) -> None:
        """The helper writes where this file stands, so that its last words are those of the last question."""
        self._last_words.seek(0)
        self._last_words.truncate()

    def _forget(self, process: subprocess.Popen[bytes]) -> None:
        self._process = None
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):  # of what it did not read any more
                pipe.close()


def serve(answer: Callable[[Any], Any], memory_bytes: int) -> None:
    """Answer questions until there are no more: what the helper's `__main__` calls once all its imports are done.

    Args:
        answer: question -> answer. What it raises ends the helper.
        memory_bytes: how much more than now this process may take; then it gets a MemoryError.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # libraries print; that is no answer
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # the kernel ends us, whatever hangs and whoever holds the GIL
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})  # a thread that blocks signals may have started us
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with open("/proc/self/statm", encoding="ascii") as statm:
        now = int(statm.read().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = now + memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    try:
        print(file=answers, flush=True)  # ready
        for line in sys.stdin:
            asked = json.loads(line)
            signal.setitimer(signal.ITIMER_REAL, asked["seconds"])
            text = json.dumps(answer(asked["question"]))
            signal.setitimer(signal.ITIMER_REAL, 0)
            print(text, file=answers, flush=True)
    except BrokenPipeError:  # whoever asked is gone
        os._exit(0)
