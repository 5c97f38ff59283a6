"""A configuration before Ray starts: all that would not train what it says, or would stop late.

Each check is a line of text that says what was found, why it is wrong and which key mends it. `resume.py` stands
apart: whether there is something to go on from is asked by who starts a run, not by its trainer.
"""

from __future__ import annotations

from collections.abc import Iterator

from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from verl_care.checks import files, machine, media, method, packing, sizes
from verl_care.settings import CareConfig, CareConfigError


def check(config: DictConfig) -> CareConfig:
    """The settings of `config`, after every check that needs no GPU: at a run's start, and by its trainer.

    Raises:
        CareConfigError: with one line for everything that is wrong.
    """
    try:
        care = CareConfig.from_config(config)
        problems = list(_problems(care, config))
    except OmegaConfBaseException as error:  # a key that is not there, or one that refers to none
        raise CareConfigError(f"the configuration cannot be read: {error}") from error
    if problems:
        raise CareConfigError("\n".join(problems))
    return care


def _problems(care: CareConfig, config: DictConfig) -> Iterator[str]:
    yield from machine.problems(config)
    yield from method.problems(care, config)
    yield from sizes.problems(care, config)
    if care.packing:
        yield from packing.problems(config)
    yield from media.problems(config.data)
    yield from files.problems(care, config)
