"""vLLM 0.24.0 for CPUs under verl 0.9.1: its run-time patches, apart because the fork server needs them without Ray."""

from __future__ import annotations

import importlib.metadata
import os
import queue
from types import ModuleType
from typing import Any

import torch
import wrapt

ENVIRONMENT = {"VLLM_CPU_KVCACHE_SPACE": "1", "TORCHDYNAMO_DISABLE": "1"}
"""As config/care/platform/cpu.yaml has it for a training, which also says why; GiB, and no compiling."""

# Longer than a processor needs for the clip of the next prompt (docs/performance.md: 12 ms a group of the quick start),
# and short beside a generation of a second or more; a request that comes alone pays it once.
GATHERED_S = 0.05
GATHERED = "VERL_CARE_GATHERED_S"  # the environment variable that says another; 0 is vLLM as it is
# The most that a lost notification costs. 1 s / 5 ms: an idle reader looks 200 times a second, a spinning one always.
NAP_MS = 5


def _answer_for_vllm() -> None:
    """verl 0.9.1 third_party/vllm/__init__.py:31 asks for a distribution called "vllm"; here it is "vllm-cpu"."""
    version = importlib.metadata.version

    def version_of(distribution_name: str) -> str:
        try:
            return version(distribution_name)
        except importlib.metadata.PackageNotFoundError:
            if distribution_name != "vllm":
                raise
            # vllm.platforms looks for "cpu" in the version of a CPU build
            return version("vllm-cpu") + "+cpu"

    importlib.metadata.version = version_of


_answer_for_vllm()


@wrapt.when_imported("vllm.model_executor.layers.utils")
def _keep_weights(module: ModuleType) -> None:
    """vLLM 0.24.0 layers/utils.py:304 empties a layer's weight once the CPU kernel has packed it.

    The next weight sync then finds nothing to copy into. linear.py:213 looks the function up when it
    calls it, and a vLLM worker imports verl (its worker extension) before it builds a layer.
    """
    pack = module.dispatch_cpu_unquantized_gemm

    def pack_and_keep(layer: torch.nn.Module, remove_weight: bool) -> None:
        pack(layer, remove_weight=False)

    module.dispatch_cpu_unquantized_gemm = pack_and_keep  # type: ignore[attr-defined]


@wrapt.when_imported("vllm.distributed.device_communicators.shm_broadcast")
def _sleep_while_waiting(module: ModuleType) -> None:
    """vLLM 0.24.0 shm_broadcast.py:183 spins for a second after each message, on a core that others need.

    Its notifications may be lost (a socket that publishes, with room for one), so a sleep ends by itself.
    """
    condition = module.SpinCondition
    wait = condition.wait

    def sleep(self: Any, timeout_ms: int | None = None) -> None:
        self.busy_loop_s = 0.0
        wait(self, timeout_ms=NAP_MS if timeout_ms is None else min(timeout_ms, NAP_MS))

    condition.wait = sleep


@wrapt.when_imported("vllm.v1.engine.core")
def _gather_requests(module: ModuleType) -> None:
    """vLLM 0.24.0 v1/engine/core.py:1269 steps as soon as there is one request.

    A step of a small model costs a CPU about the same for one sequence as for fifty, and requests of a batch come one
    by one, each from another core's work; on few cores the steps take that time from the requests still to come. So
    when requests have come, the engine waits until none has come for `GATHERED_S`. Those that run wait too, at most
    so many times as there may be requests. Without a new one a step follows at once, also if some are still waiting
    (for memory, or because the scheduler is paused).
    """
    engine = module.EngineCoreProc
    process_input_queue = engine._process_input_queue

    def gather(self: Any) -> None:
        pause_s = float(os.environ.get(GATHERED, GATHERED_S))
        known = len(self.scheduler.requests)
        process_input_queue(self)
        # An abort, a call or a shutdown adds no request, and so ends it: a stream of calls could go on for ever.
        while known < len(self.scheduler.requests) < self.scheduler.max_num_running_reqs:
            known = len(self.scheduler.requests)
            try:
                request = self.input_queue.get(timeout=pause_s)
            except queue.Empty:
                break
            self._handle_client_request(*request)

    engine._process_input_queue = gather
