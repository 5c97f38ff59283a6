"""vLLM's engine on few cores: it gathers requests before it steps, and a reader sleeps. Neither vLLM nor a clock."""

from __future__ import annotations

import queue
from types import SimpleNamespace

import pytest

from verl_care.platforms.cpu.vllm import GATHERED, GATHERED_S, NAP_MS, _gather_requests, _sleep_while_waiting

ADD, ABORT, CALL = "add", "abort", "call"


class Arrivals:
    """A queue: what is there already, and then what comes at each wait; None is a wait in vain."""

    def __init__(self, *later: tuple[str, str] | None):
        self.later = list(later)
        self.waits: list[float | None] = []

    def get(self, timeout: float | None = None) -> tuple[str, str]:
        self.waits.append(timeout)
        request = self.later.pop(0) if self.later else None
        if request is None:
            raise queue.Empty
        return request


def engine_with(there: list[tuple[str, str]], *later: tuple[str, str] | None, known: tuple[str, ...] = (), bound=64):
    """A patched engine of vLLM's shape. It knows some requests, finds others in its queue, and gets more later."""

    class EngineCoreProc:
        def __init__(self):
            self.scheduler = SimpleNamespace(requests=dict.fromkeys(known), max_num_running_reqs=bound)
            self.input_queue = Arrivals(*later)
            self.handled: list[tuple[str, str]] = []

        def _handle_client_request(self, kind: str, name: str) -> None:
            self.handled.append((kind, name))
            if kind == ADD:
                self.scheduler.requests[name] = None
            elif kind == ABORT:
                self.scheduler.requests.pop(name, None)

        def _process_input_queue(self) -> None:
            while there:
                self._handle_client_request(*there.pop(0))

    _gather_requests(SimpleNamespace(EngineCoreProc=EngineCoreProc))  # type: ignore[arg-type]
    engine = EngineCoreProc()
    engine._process_input_queue()
    return engine


def adds(*names: str) -> list[tuple[str, str]]:
    return [(ADD, name) for name in names]


def test_the_environment_says_how_long_it_gathers(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(GATHERED, "0")
    assert engine_with(adds("a")).input_queue.waits == [0.0]  # looks once, waits for nothing


def test_all_requests_that_come_are_handled_before_a_step():
    engine = engine_with(adds("a"), *adds("b", "c"))
    assert engine.handled == adds("a", "b", "c")
    assert engine.input_queue.waits == [GATHERED_S] * 3  # for b, for c, and once in vain


def test_a_pause_ends_it():
    engine = engine_with(adds("a"), None, *adds("later"))
    assert engine.handled == adds("a")
    assert engine.input_queue.later == adds("later")


def test_requests_that_never_pause_end_at_the_bound():
    engine = engine_with(adds("a"), *adds(*"bcdefgh"), known=("z",), bound=5)
    assert set(engine.scheduler.requests) == set("zabcd")
    assert len(engine.input_queue.waits) == 3  # b, c, d


@pytest.mark.parametrize("there", [[], [(CALL, "sleep")], [(ABORT, "a")]], ids=["nothing", "a call", "an abort"])
@pytest.mark.parametrize("known", [(), ("a", "b")], ids=["idle", "running"])
def test_nothing_waits_without_a_new_request(there, known):
    # known ones may run, or wait for memory: a step is what they need
    assert engine_with(list(there), *adds("c"), known=known).input_queue.waits == []


@pytest.mark.parametrize("bound", [2, 3])
def test_a_full_scheduler_steps_at_once(bound):
    engine = engine_with(adds("a", "b", "c"), *adds("d"), bound=bound)
    assert engine.handled == adds("a", "b", "c")
    assert engine.input_queue.waits == []


@pytest.mark.parametrize("other", [(CALL, "stats"), (ABORT, "a")])
def test_what_is_no_request_is_handled_and_ends_it(other):
    engine = engine_with(adds("a"), other, *adds("b"))
    assert engine.handled == [*adds("a"), other]
    assert engine.input_queue.waits == [GATHERED_S]


@pytest.fixture
def condition():
    """A patched condition of vLLM's shape, read a moment ago; it keeps what it was asked to poll for."""

    class SpinCondition:
        def __init__(self):
            self.now = self.last_read = 100.0
            self.busy_loop_s: float = 1
            self.spins = 0
            self.polls: list[int | None] = []

        def wait(self, timeout_ms: int | None = None) -> None:
            self.now += 1e-6
            if self.now <= self.last_read + self.busy_loop_s:
                self.spins += 1
            else:
                self.polls.append(timeout_ms)

    _sleep_while_waiting(SimpleNamespace(SpinCondition=SpinCondition))  # type: ignore[arg-type]
    return SpinCondition()


@pytest.mark.parametrize(
    ("asked", "slept"),
    [(None, NAP_MS), (60_000, NAP_MS), (NAP_MS + 1, NAP_MS), (NAP_MS, NAP_MS), (NAP_MS - 1, NAP_MS - 1), (1, 1)],
)
def test_a_reader_naps_and_never_spins(condition, asked, slept):
    condition.wait(timeout_ms=asked)
    condition.wait(asked)
    assert condition.polls == [slept, slept]
    assert condition.spins == 0


def test_a_wait_without_end_is_a_nap(condition):
    condition.wait()
    assert condition.polls == [NAP_MS]
