"""One question to an OpenAI-compatible server: in time, and again if it is worth asking again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from verl_care.evaluation.judge.quoting import printable
from verl_care.evaluation.judge.verdict import Reply, reply_of

if TYPE_CHECKING:
    import openai

_WORTH_ASKING_AGAIN = frozenset({408, 409, 425, 429})  # and every 5xx
_HOPELESS = frozenset({401, 402, 404})  # no key, no money, no such model or address: the next request fares the same
_LONGEST_WAIT = 60.0  # seconds of our own back-off
_LONGEST_REQUESTED_WAIT = 600.0  # seconds that a server may make us wait


class ServerError(ValueError):
    """No request will be answered: for the user."""


class NoReply(Exception):
    """This request is not answered; others may be.

    Attributes:
        why: for the measure: one of `TRANSIENT`, or "rejected".
    """

    def __init__(self, why: str, detail: str = ""):
        super().__init__(f"{why}: {detail}" if detail else why)
        self.why = why


TRANSIENT = ("timeout", "busy", "server error")
"""Reasons that may be gone when it is asked again."""


class Server:
    """A chat completion endpoint.

    Args:
        base_url: with its version: `http://127.0.0.1:8000/v1`.
        api_key: is sent, and appears nowhere else; servers without keys take any.
        timeout: seconds for one attempt, all of it: a server that sends a byte now and then does not hold it up.
        retries: attempts after the first.
        sleep, chance: the clock and the jitter (a number in [0, 1)); tests have their own.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        timeout: float,
        retries: int,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
    ):
        import openai

        if urlsplit(base_url).scheme not in ("http", "https"):
            raise ServerError(f"--base-url {base_url!r} is no address: write it like http://127.0.0.1:8000/v1")
        self._key, self._timeout, self._retries, self._sleep, self._chance = api_key, timeout, retries, sleep, chance
        self.place = urlsplit(base_url).hostname or base_url  # without a password that may stand in it
        self._client = openai.AsyncOpenAI(base_url=base_url, api_key=api_key, max_retries=0, timeout=timeout)

    async def close(self) -> None:
        await self._client.close()

    async def complete(self, request: dict[str, Any]) -> Reply:
        """The reply to the parameters of a chat completion.

        Raises:
            NoReply: not to this one, after all retries.
            ServerError: nor to any other.
        """
        for attempt in range(self._retries + 1):
            try:
                return await self._once(request)
            except _AskAgain as failure:
                if attempt == self._retries:
                    raise failure.at_last from failure.__cause__
                await self._sleep(self._wait(attempt, failure.requested_wait))
        raise AssertionError("unreachable")

    async def _once(self, request: dict[str, Any]) -> Reply:
        import openai

        create = self._client.chat.completions.with_raw_response.create
        try:
            raw = await asyncio.wait_for(create(**request), self._timeout)
        except (asyncio.TimeoutError, openai.APITimeoutError) as error:
            raise _AskAgain(NoReply("timeout")) from error
        except openai.APIConnectionError as error:
            told = self._told(error.__cause__ or error)
            lost = ServerError(
                f"--base-url: {self.place} cannot be reached ({told}). Is the server running? "
                "The same command goes on where this one stopped."
            )
            raise _AskAgain(lost) from error
        except openai.APIStatusError as error:
            raise self._meaning(error) from error
        return reply_of(raw.http_response.content)

    def _meaning(self, error: openai.APIStatusError) -> Exception:
        status, told = error.status_code, self._told(error)
        if status in _HOPELESS or error.code == "insufficient_quota":
            return ServerError(
                f"{self.place} refuses ({told}). Look at --base-url and --model; the key is read from the environment, "
                "see --api-key-env. The same command goes on where this one stopped."
            )
        if status not in _WORTH_ASKING_AGAIN and status < 500:
            return NoReply("rejected", told)
        requested = _seconds(error.response.headers.get("retry-after"))
        at_last = NoReply("busy" if status == 429 else "server error", told)
        if requested > _LONGEST_REQUESTED_WAIT:
            return at_last
        return _AskAgain(at_last, requested)

    def _wait(self, attempt: int, requested: float) -> float:
        """Seconds: 1, 2, 4, ... to 60, of which the upper half is chance; never less than the server requests."""
        wait = min(2.0 ** min(attempt, 10), _LONGEST_WAIT) * (0.5 + 0.5 * self._chance())
        return wait if wait >= requested else requested + self._chance()

    def _told(self, error: BaseException) -> str:
        """What a server says of its error; some repeat the key."""
        return printable(str(error).replace(self._key, "***") if self._key else str(error))


class _AskAgain(Exception):
    """`at_last` is what to raise when there have been enough attempts."""

    def __init__(self, at_last: Exception, requested_wait: float = 0.0):
        super().__init__(at_last)
        self.at_last, self.requested_wait = at_last, requested_wait


def _seconds(retry_after: str | None) -> float:
    """A Retry-After header, which is a number of seconds or a date; 0 without one, or for neither."""
    if retry_after is None:
        return 0.0
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            until = parsedate_to_datetime(retry_after)
        except ValueError:
            return 0.0
        if until.tzinfo is None:
            until = until.replace(tzinfo=timezone.utc)
        seconds = (until - datetime.now(timezone.utc)).total_seconds()
    return seconds if seconds > 0 else 0.0  # NaN is not
