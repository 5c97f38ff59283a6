"""Threads that decode, none of them for longer than the time limit."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any

from verl_care.data.decoders import MediaError


class DecodePool:
    """At most `threads` jobs at a time; who asks for one gets its result, its error, or `MediaError` for lack of time.

    A C library that hangs cannot be stopped from Python. Its thread is left behind and another takes its place, so that
    a clip that hangs costs its prompt and nothing else. Threads are daemons: none keeps the process from its end.
    """

    def __init__(self, threads: int):
        self._wanted, self._lock = threads, threading.Lock()
        self._jobs: queue.SimpleQueue[tuple[Future, str, float, Callable[[], Any]]] = queue.SimpleQueue()

    def submit(self, what: str, timeout_s: float, job: Callable[[], Any]) -> Future:
        """`job()` on one of the threads; the limit counts from its start."""
        future: Future = Future()
        future.set_running_or_notify_cancel()  # an asker that gives up does not take the others' result along
        self._jobs.put((future, what, timeout_s, job))
        with self._lock:
            if self._wanted:
                self._wanted -= 1
                self._start_thread()
        return future

    def _start_thread(self) -> None:
        threading.Thread(target=self._work, daemon=True, name="decode").start()

    def _work(self) -> None:
        while True:
            future, what, timeout_s, job = self._jobs.get()
            limit = threading.Timer(timeout_s, self._give_up, (future, what, timeout_s))
            limit.daemon = True
            limit.start()
            try:
                result, error = job(), None
            except BaseException as raised:  # noqa: BLE001 - raised in every asker
                result, error = None, raised
            limit.cancel()
            try:
                future.set_result(result) if error is None else future.set_exception(error)
            except InvalidStateError:  # too late: another thread has taken this one's place
                return

    def _give_up(self, future: Future, what: str, timeout_s: float) -> None:
        with suppress(InvalidStateError):  # it came in the last moment
            future.set_exception(MediaError(f"{what}: not decoded in {timeout_s:g} s (data.video.timeout_s)"))
            self._start_thread()
