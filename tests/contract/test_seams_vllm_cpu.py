"""What platforms.cpu.vllm relies on in vLLM's engine and in its queue between processes, a test per seam."""

import inspect
import queue
from types import SimpleNamespace

import pytest
import zmq

from tests.contract.seams import in_order, source
from verl_care import platforms

vllm = pytest.importorskip("vllm", reason="vLLM is not installed here")
if not platforms.wants_cpu():
    pytest.skip("vLLM is patched where it runs on a CPU only", allow_module_level=True)

import verl_care.platforms.cpu.vllm as ours  # noqa: E402 - not where it would patch vLLM for a GPU

core = pytest.importorskip("vllm.v1.engine.core")
shm_broadcast = pytest.importorskip("vllm.distributed.device_communicators.shm_broadcast")
scheduler = pytest.importorskip("vllm.v1.core.sched.scheduler")

GATHER = f"vLLM {vllm.__version__}: platforms.cpu.vllm._gather_requests"
SLEEP = f"vLLM {vllm.__version__}: platforms.cpu.vllm._sleep_while_waiting"


def replaced(function: object, name: str):
    """vLLM's own function, which ours calls."""
    return inspect.getclosurevars(function).nonlocals[name]  # type: ignore[arg-type]


def test_both_are_installed_in_the_vllm_that_is_imported():
    assert core.EngineCoreProc._process_input_queue.__module__ == ours.__name__, GATHER
    assert shm_broadcast.SpinCondition.wait.__module__ == ours.__name__, SLEEP
    theirs = replaced(core.EngineCoreProc._process_input_queue, "process_input_queue")
    assert list(inspect.signature(theirs).parameters) == ["self"], GATHER
    theirs = replaced(shm_broadcast.SpinCondition.wait, "wait")
    assert list(inspect.signature(theirs).parameters) == ["self", "timeout_ms"], SLEEP


@pytest.mark.parametrize("name", ["EngineCoreProc", "DPEngineCoreProc", "EngineCoreActor", "DPMoEEngineCoreActor"])
def test_every_engine_asks_for_its_requests_before_each_step(name):
    engine = getattr(core, name)
    loop = source(engine.run_busy_loop)
    assert in_order(loop, "self._process_input_queue()", "self._process_engine_step()"), f"{GATHER}: {name}"
    assert engine._process_input_queue is core.EngineCoreProc._process_input_queue, f"{GATHER}: {name} has its own"


def test_the_scheduler_counts_its_requests():
    start = source(scheduler.Scheduler.__init__)
    assert "self.requests: dict[str, Request] = {}" in start, GATHER
    assert "self.max_num_running_reqs = self.scheduler_config.max_num_seqs" in start, GATHER
    assert "self.requests[request.request_id] = request" in source(scheduler.Scheduler.add_request), GATHER
    assert "del self.requests[request.request_id]" in source(scheduler.Scheduler), GATHER


def added(name: str):
    return core.EngineCoreRequestType.ADD, (SimpleNamespace(request_id=name), 0)


def engine_with(there: str, later: str):
    """vLLM's engine without a model: requests named `there` are in its queue, one of `later` comes at each wait."""

    left = list(later)

    class Input(queue.Queue):
        def get(self, block=True, timeout=None):
            if timeout is not None and left:
                self.put(added(left.pop(0)))
            return super().get(block=block and timeout is None)  # it never sleeps

    engine = object.__new__(core.EngineCoreProc)
    engine.scheduler = SimpleNamespace(requests={}, max_num_running_reqs=8)
    engine.scheduler.has_requests = lambda: bool(engine.scheduler.requests)
    engine.add_request = lambda request, wave: engine.scheduler.requests.update({request.request_id: wave})
    engine.input_queue, engine.aborts_queue = Input(), queue.Queue()
    engine.engines_running, engine.batch_queue, engine.process_input_queue_block = False, None, True
    engine.shutdown_state, engine._idle_state_callbacks = core.EngineShutdownState.RUNNING, []
    for name in there:
        engine.input_queue.put(added(name))
    return engine


def test_the_engine_itself_steps_with_what_is_there_and_ours_with_what_comes():
    engine = engine_with("ab", "cd")
    replaced(type(engine)._process_input_queue, "process_input_queue")(engine)
    assert list(engine.scheduler.requests) == ["a", "b"], f"{GATHER}: vLLM gathers by itself"
    engine = engine_with("ab", "cd")
    engine._process_input_queue()
    assert list(engine.scheduler.requests) == ["a", "b", "c", "d"], GATHER


def test_a_shutdown_wakes_the_engine_that_gathers():
    assert "input_queue.put_nowait((EngineCoreRequestType.WAKEUP, None))" in source(core.EngineCoreProc), GATHER
    engine = engine_with("a", "")
    engine.input_queue.put((core.EngineCoreRequestType.WAKEUP, None))
    engine._process_input_queue()
    assert engine.input_queue.empty(), GATHER


@pytest.fixture
def reader(monkeypatch):
    """vLLM's condition of a reader that has just read; it counts spins and polls, and does neither."""
    context = zmq.Context()
    # Held until the end: a reader that connects while its writer is collected aborts the process (libzmq, ctx.cpp).
    writer = shm_broadcast.SpinCondition(is_reader=False, context=context, notify_address="inproc://notify")
    condition = shm_broadcast.SpinCondition(is_reader=True, context=context, notify_address="inproc://notify")
    condition.spins, condition.polls = [], []
    condition.poller = SimpleNamespace(poll=lambda timeout: condition.polls.append(timeout) or [])
    monkeypatch.setattr(shm_broadcast, "sched_yield", lambda: condition.spins.append(1))
    yield condition
    context.destroy(linger=0)
    assert writer.local_notify_socket.closed


def test_a_reader_spins_by_itself_only_for_so_long_after_a_read(reader):
    wait = replaced(type(reader).wait, "wait")
    assert reader.busy_loop_s > 0, f"{SLEEP}: vLLM does not spin any more"
    reader.busy_loop_s = 1e9
    reader.record_read()
    wait(reader, timeout_ms=7)
    assert (len(reader.spins), reader.polls) == (1, []), SLEEP
    reader.busy_loop_s = -1.0  # long ago
    wait(reader, timeout_ms=7)
    assert (len(reader.spins), reader.polls) == (1, [7]), SLEEP


def test_with_ours_it_sleeps_from_the_start(reader):
    reader.last_read -= 0.001  # the clock need not have moved
    reader.wait(timeout_ms=60_000)
    reader.wait(timeout_ms=1)
    reader.wait()
    assert (reader.spins, reader.polls) == ([], [ours.NAP_MS, 1, ours.NAP_MS]), SLEEP


def test_a_nap_that_ends_looks_again_at_the_block_the_end_and_the_deadline():
    read = source(shm_broadcast.MessageQueue.acquire_read)
    steps = ("while True:", "_spin_condition.wait(timeout_ms=read_timeout.timeout_ms())", "if self.shutting_down:")
    assert in_order(read, *steps), SLEEP
    assert "raise TimeoutError" in source(shm_broadcast.MessageQueue.ReadTimeoutWithWarnings.timeout_ms), SLEEP
