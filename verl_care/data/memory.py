"""What many ask for at the same time is made once, and kept while it fits."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any


class MemoryCache:
    """Results under a bound in bytes, the longest unused going first; askers of one key share one computation.

    verl asks for a prompt's media once per response (G times, mostly at the same moment). An error reaches all who
    asked by then, and is not kept.

    Args:
        capacity: bytes that are kept. What is being made, and what an asker still holds, is not counted.
        size: bytes of one result.
    """

    def __init__(self, capacity: int, size: Callable[[Any], int]):
        self._capacity, self._size = capacity, size
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, Future] = OrderedDict()
        self._under_way: dict[Hashable, Future] = {}
        self.bytes = 0

    def get(self, key: Hashable, start: Callable[[], Future]) -> Future:
        """The result for `key`, kept or under way; else of `start()`, which begins to compute it and does not wait."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            if key in self._under_way:
                return self._under_way[key]
            future = self._under_way[key] = start()
        future.add_done_callback(lambda done: self._keep(key, done))
        return future

    def _keep(self, key: Hashable, future: Future) -> None:
        with self._lock:
            del self._under_way[key]
            if future.exception() is not None or self._size(future.result()) > self._capacity:
                return
            self._kept[key] = future
            self.bytes += self._size(future.result())
            while self.bytes > self._capacity:
                self.bytes -= self._size(self._kept.popitem(last=False)[1].result())
