"""verl 0.9.1 and vLLM 0.24.0 on a machine without an accelerator: quick starts, tests, laptops.

What has an extension point in verl uses it: the platform and the FSDP engine. Three run-time patches
remain, here and in `vllm.py`, each naming the line it answers. The rest is configuration:
`verl_care/config/care/platform/cpu.yaml`.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import ModuleType
from typing import Any

import torch
import wrapt
from verl.plugin.platform import PlatformBase, PlatformRegistry

importlib.import_module("verl_care.platforms.cpu.vllm")


class _CpuDevice(ModuleType):
    """`torch.cpu`, plus the calls of `torch.cuda` that verl makes on every platform.

    engine_workers.py:219 asks for memory figures, flops_counter.py:80 for a device name.
    """

    def __getattr__(self, name: str) -> Any:
        return getattr(torch.cpu, name)

    def get_device_name(self, _device: Any = None) -> str:
        return "CPU"  # the key of verl's FLOPS table

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    manual_seed_all = manual_seed

    def get_rng_state(self, _device: Any = None) -> torch.Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: torch.Tensor, _device: Any = None) -> None:
        torch.set_rng_state(state)

    def mem_get_info(self, _device: Any = None) -> tuple[int, int]:
        import psutil

        memory = psutil.virtual_memory()
        return memory.available, memory.total

    def _nothing(self, *_args: Any, **_kwargs: Any) -> None:
        return None

    def _zero(self, *_args: Any, **_kwargs: Any) -> int:
        return 0

    set_device = empty_cache = ipc_collect = reset_peak_memory_stats = _nothing
    memory_allocated = memory_reserved = max_memory_allocated = max_memory_reserved = _zero


_DEVICE = _CpuDevice("verl_care.platforms.cpu.device")


@PlatformRegistry.register(platform="cpu")
class PlatformCPU(PlatformBase):
    """The platform verl falls back to when it finds no accelerator (detection goes in order of registration)."""

    @property
    def device_name(self) -> str:
        return "cpu"

    @property
    def vendor_name(self) -> str:
        return "cpu"

    @property
    def device_module(self) -> ModuleType:
        return _DEVICE

    def is_available(self) -> bool:
        return True

    def current_device(self) -> str:  # type: ignore[override]  # verl uses it as the argument of `.to()`
        return "cpu"

    def device_count(self) -> int:
        return 1

    def set_device(self, device_index: int) -> None:
        pass

    def synchronize(self, device_index: int | None = None) -> None:
        pass

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None:
        torch.manual_seed(seed)

    def set_allocator_settings(self, settings: str) -> None:
        pass

    def empty_cache(self) -> None:
        pass

    def get_device_capability(self, device_index: int = 0) -> tuple[int | None, int | None]:
        return None, None

    def communication_backend_name(self) -> str:
        return "gloo"

    def visible_devices_envvar(self) -> str:
        return "CUDA_VISIBLE_DEVICES"

    @contextmanager
    def nvtx_range(self, msg: str) -> Iterator[None]:
        yield

    def profiler_start(self) -> None:
        pass

    def profiler_stop(self) -> None:
        pass

    def ray_resource_name(self) -> str:
        # single_controller/ray/base.py:146,192,230 counts GPUs. Ray's resources are logical:
        # care/platform=cpu declares as many "GPUs" as there are ranks.
        return "GPU"

    def ray_noset_envvars(self) -> list[str]:
        return ["RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"]

    def is_ipc_supported(self) -> bool:
        return False  # weights go to vLLM through shared memory

    def cudart(self) -> None:
        return None


def _init_process_group(timeout_second: float | None = None, backend: str | None = None) -> None:
    import torch.distributed as dist

    if not dist.is_initialized():
        dist.init_process_group(
            backend=backend or "cpu:gloo",
            rank=int(os.environ.get("RANK", 0)),
            world_size=int(os.environ.get("WORLD_SIZE", 1)),
            timeout=timedelta(seconds=timeout_second) if timeout_second is not None else None,
            init_method=os.environ.get("DIST_INIT_METHOD"),
        )


@wrapt.when_imported("verl.utils.distributed")
def _one_backend_per_device(module: ModuleType) -> None:
    """verl 0.9.1 utils/distributed.py:89 asks for "cpu:gloo,cpu:gloo"; torch refuses a device named twice."""
    module.initialize_global_process_group_ray = _init_process_group  # type: ignore[attr-defined]


@wrapt.when_imported("verl.workers.engine.fsdp")
def _register_engine(_module: ModuleType) -> None:
    """verl 0.9.1 transformer_impl.py:1143 registers its FSDP engine for cuda and npu."""
    from unittest import mock

    from torch.distributed.fsdp import CPUOffloadPolicy
    from verl.workers.engine.base import EngineRegistry
    from verl.workers.engine.fsdp import transformer_impl

    @EngineRegistry.register(model_type="language_model", backend=["fsdp2"], device="cpu")
    class CPUFSDPEngineWithLMHead(transformer_impl.FSDPEngineWithLMHead):
        def _build_fsdp_module(self, module: torch.nn.Module) -> torch.nn.Module:
            # transformer_impl.py:462 pins the reference's memory, which needs a CUDA driver.
            unpinned = CPUOffloadPolicy(pin_memory=False)
            with mock.patch.object(transformer_impl, "CPUOffloadPolicy", return_value=unpinned):
                return super()._build_fsdp_module(module)  # type: ignore[misc]

    from verl_care.packing.engine import MODEL_TYPE, GroupPacking

    @EngineRegistry.register(model_type=MODEL_TYPE, backend=["fsdp2"], device="cpu")
    class CPUPackedFSDPEngine(GroupPacking, CPUFSDPEngineWithLMHead):
        pass
