"""What the responses to one prompt have in common while they are made: things made once, and one way out.

A group's responses are asyncio tasks of one agent-loop worker. `current` is the group of the task that asks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")

current: ContextVar[Group | None] = ContextVar("current", default=None)
"""Set where a prompt's tasks are created from; None in a worker that knows of no groups."""


class Group:
    """The responses to one prompt."""

    def __init__(self) -> None:
        self._made: dict[str, asyncio.Future[Any]] = {}
        self._running = 0
        self._waiting: list[Any] = []
        self._meeting: asyncio.Future[asyncio.Future[None]] | None = None
        self._hand_on: Callable[[list[Any]], Awaitable[None]] | None = None

    async def once(self, name: str, make: Callable[[], Awaitable[T]]) -> T:
        """What the first response to ask for `name` makes; all of them get it, or its exception."""
        if name not in self._made:
            self._made[name] = asyncio.ensure_future(make())
        return await asyncio.shield(self._made[name])  # a response that is cancelled takes it from no other

    @contextmanager
    def response(self) -> Iterator[None]:
        """One of the group's responses runs in here. Their tasks are created without a pause between them."""
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
            self._go_on_without_stragglers()

    async def together(self, item: Any, hand_on: Callable[[list[Any]], Awaitable[None]]) -> None:
        """Wait until every response still running is here, then have the items of all handed on by one call.

        Its exception is raised in every response that waits. A response that fails before it comes here is not waited
        for.
        """
        await asyncio.sleep(0)  # the tasks created beside this one have begun then, and count as running
        if self._meeting is None:
            self._meeting = asyncio.get_running_loop().create_future()
        meeting, self._hand_on = self._meeting, hand_on
        self._waiting.append(item)
        self._go_on_without_stragglers()
        await asyncio.shield(await asyncio.shield(meeting))

    def _go_on_without_stragglers(self) -> None:
        if self._meeting is None or self._hand_on is None or len(self._waiting) < self._running:
            return
        items, self._waiting = self._waiting, []
        meeting, self._meeting = self._meeting, None
        meeting.set_result(asyncio.ensure_future(self._hand_on(items)))
