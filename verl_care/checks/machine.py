"""Whether the device that is asked for is the one that verl takes."""

from __future__ import annotations

import os
from collections.abc import Iterator

from omegaconf import DictConfig

from verl_care import platforms


def problems(config: DictConfig) -> Iterator[str]:
    """A line where a run on the CPU would train on the accelerator."""
    if config.trainer.device == "cpu" and not platforms.wants_cpu():
        named = os.environ.get("VERL_PLATFORM")
        found = f"VERL_PLATFORM={named}" if named else "this machine has an accelerator, which verl takes"
        yield (
            f"trainer.device=cpu: {found}, so nothing here trains on the CPU. Set the environment variable"
            " VERL_PLATFORM=cpu, or care/platform=gpu to train on the accelerator."
        )
