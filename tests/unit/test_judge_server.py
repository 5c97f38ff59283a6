"""One request to a judge: how often it is tried, how long that may take, and what is told when it fails."""

from __future__ import annotations

import asyncio
import threading
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import pytest

from tests.unit.judge_server import Answer, Clock, FakeServer, refusal, verdict
from verl_care.evaluation.judge.server import NoReply, Server, ServerError


def complete(answers: list[Answer], clock: Clock, retries: int = 4, timeout: float = 30.0) -> tuple[Any, int]:
    """(the reply or what was raised, how many requests that took)."""

    async def ask(url: str) -> Any:
        server = Server(url, "sk-secret", timeout=timeout, retries=retries, sleep=clock.sleep, chance=clock.chance)
        try:
            return await server.complete({"model": "m", "messages": []})
        except (NoReply, ServerError) as error:
            return error
        finally:
            await server.close()

    waiting = iter(answers)
    with FakeServer(lambda _: next(waiting)) as fake:
        return asyncio.run(ask(fake.url)), len(fake.requests)


def test_it_is_asked_again_later_and_later() -> None:
    clock = Clock(chance=0.5)
    reply, requests = complete([refusal(500), refusal(503), refusal(429), verdict("consistent")], clock)
    assert (reply.text, requests) == ('{"verdict": "consistent"}', 4)
    # 1, 2, 4 seconds, each times 0.5 + 0.5 * chance = 0.75
    assert clock.waits == [0.75, 1.5, 3.0]


def test_the_wait_has_an_upper_limit() -> None:
    clock = Clock()
    failure, requests = complete([refusal(500)] * 9, clock, retries=8)
    assert (failure.why, requests) == ("server error", 9)
    # 2^6 = 64 is above 60; half of it with no luck
    assert clock.waits == [0.5, 1, 2, 4, 8, 16, 30, 30]


@pytest.mark.parametrize(
    ("retry_after", "waited"),
    [("7", 7.25), ("0.1", 0.625), ("-3", 0.625), ("nan", 0.625), ("soon", 0.625), ("", 0.625)],
)
def test_the_server_may_ask_for_a_longer_wait(retry_after: str, waited: float) -> None:
    # chance 0.25: our own first wait is 0.5 + 0.5 * 0.25 = 0.625 s; 7 s requested become 7.25
    clock = Clock(chance=0.25)
    reply, _ = complete([refusal(429, Retry_After=retry_after), verdict("unknown")], clock)
    assert reply.text == '{"verdict": "unknown"}'
    assert clock.waits == [waited]


def test_the_wait_may_be_a_date() -> None:
    clock = Clock()
    date = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=590), usegmt=True)
    complete([refusal(503, Retry_After=date), verdict("unknown")], clock)
    assert 60 < clock.waits[0] <= 590  # our own first wait is below 1


@pytest.mark.parametrize("retry_after", ["86400", "inf"])
def test_a_server_that_wants_a_day_is_busy(retry_after: str) -> None:
    clock = Clock()
    failure, requests = complete([refusal(429, Retry_After=retry_after)], clock)
    assert (failure.why, requests, clock.waits) == ("busy", 1, [])


def test_what_cannot_be_mended_is_not_asked_again() -> None:
    clock = Clock()
    failure, requests = complete([refusal(400, "too long\x1b[2K")], clock)
    assert isinstance(failure, NoReply)
    assert (failure.why, requests, clock.waits) == ("rejected", 1, [])
    assert "too long [2K" in str(failure)
    for answer in (refusal(401), refusal(402), refusal(404), refusal(429, code="insufficient_quota")):
        failure, requests = complete([answer], clock)
        assert isinstance(failure, ServerError), answer
        assert requests == 1


def test_a_key_that_a_server_repeats_is_not_told() -> None:
    failure, _ = complete([refusal(401, "sk-secret is wrong")], Clock())
    assert "*** is wrong" in str(failure)
    assert "sk-secret" not in str(failure)


def test_a_request_has_a_time_limit() -> None:
    done = threading.Event()

    def slow(_: object) -> Answer:
        done.wait(30)
        return verdict("consistent")

    async def ask(url: str) -> None:
        clock = Clock()
        server = Server(url, "k", timeout=0.05, retries=2, sleep=clock.sleep, chance=clock.chance)
        with pytest.raises(NoReply, match="timeout"):
            await server.complete({"model": "m", "messages": []})
        assert clock.waits == [0.5, 1.0]
        await server.close()

    with FakeServer(slow) as fake:
        asyncio.run(ask(fake.url))
        done.set()


def test_nobody_there_is_an_error_for_the_user() -> None:
    async def ask() -> None:
        server = Server("http://user:sk-pass@127.0.0.1:9/v1", "k", timeout=9, retries=1, sleep=Clock().sleep)
        with pytest.raises(ServerError, match=r"127.0.0.1 cannot be reached .*Is the server running") as error:
            await server.complete({"model": "m", "messages": []})
        assert "sk-pass" not in str(error.value)
        await server.close()

    asyncio.run(ask())
    with pytest.raises(ServerError, match="is no address"):
        Server("127.0.0.1:8000", "k", timeout=1, retries=0)
