"""Which kind of machine this process runs on.

verl 0.9.1 knows CUDA, ROCm and Ascend. `verl_care.platforms.cpu` adds the machine that has none of
them; it is imported only there, so a GPU process never runs a line of it.
"""

import importlib
import os

# Device files exist in every process of a node, also in Ray actors to which Ray shows no GPU; asking
# CUDA there would say "none", and asking nvidia-smi costs a second.
_ACCELERATOR_DEVICES = ("/dev/nvidiactl", "/dev/kfd", "/dev/davinci_manager", "/dev/dxg")


def has_accelerator() -> bool:
    """True if this machine has an NVIDIA, AMD or Ascend device."""
    return any(os.path.exists(path) for path in _ACCELERATOR_DEVICES)


def wants_cpu() -> bool:
    """True if verl should train on the CPU here: `VERL_PLATFORM` decides, else the absence of an accelerator."""
    named = os.environ.get("VERL_PLATFORM", "").strip().lower()
    return named == "cpu" if named else not has_accelerator()


def choose() -> None:
    """Register the CPU platform with verl where it is the one to use."""
    if wants_cpu():
        importlib.import_module("verl_care.platforms.cpu.platform")
