"""What happens around a run, in the process the user started: checks and helpers before Ray, tidying after it.

Hydra calls this through `hydra.callbacks` of care_base.yaml. verl's entry point has no such hook, and
its task runner is already a Ray actor when it first sees the configuration.
"""

from __future__ import annotations

import atexit
import os
import shlex
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException


class CareRun(Callback):
    """Stops a wrong configuration in its first second, and leaves no shared memory behind."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        # Not in `on_job_start`: by then Hydra has copied what verl gets, and calls us with the other one.
        with _ending():
            make_folders_absolute(config)

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        from verl_care.checks import check, resume

        with _ending():
            resume.check(check(config), config)
            self.prepare(config)
            _make_ready(config)

    def prepare(self, config: DictConfig) -> None:
        """For runs that need more than checked settings. A `CareConfigError` stops the run, as one of these does."""


@contextmanager
def _ending() -> Iterator[None]:
    """Hydra turns an exception of a callback into a warning and goes on; SystemExit it lets through."""
    from verl_care.processes import shared_memory
    from verl_care.settings import CareConfigError

    try:
        yield
    except OmegaConfBaseException as error:
        print(f"verl_care: the configuration cannot be read: {error}", file=sys.stderr)
        sys.exit(2)
    except CareConfigError as error:
        print(f"verl_care: this configuration would not do what it says:\n{error}", file=sys.stderr)
        sys.exit(2)
    except shared_memory.ForeignFolder as error:
        print(f"verl_care: {error}", file=sys.stderr)
        sys.exit(2)
    except Exception:  # noqa: BLE001 - what broke here must not pass for done
        traceback.print_exc()
        sys.exit(1)


def make_folders_absolute(config: DictConfig) -> None:
    """The folders that a run writes to or goes on from, seen from where the user started it.

    The processes of a Ray that was there before stand elsewhere: what is checked here would be another folder there.
    """
    from verl_care.checks.files import FOLDERS

    # In this order: `trainer.validation_data_dir` follows the folder that it is in.
    for key in ("evaluation.run", *(f"trainer.{name}" for name in FOLDERS)):
        folder = OmegaConf.select(config, key)
        if isinstance(folder, str) and folder and not folder.startswith("~") and "://" not in folder:
            OmegaConf.update(config, key, os.path.abspath(folder))


def _make_ready(config: DictConfig) -> None:
    """What helps a run, and is taken back when this process ends."""
    from verl_care.processes import shared_memory, worker_environment

    segments = shared_memory.Segments()
    removed = segments.remove_stale()
    if removed:
        print(f"verl_care: removed {len(removed)} shared-memory segments that an earlier run left in /dev/shm")
    server = _start_fork_server(config)
    # Not in `on_job_end`, which a Ctrl-C never reaches. Ray's own exit handler is older, so it comes after this.
    atexit.register(_tidy, segments, server)
    if server is not None:
        worker_environment.hand_on(str(server.python))
    else:
        worker_environment.hand_on(sys.executable if shlex.quote(sys.executable) != sys.executable else None)


def _start_fork_server(config: DictConfig) -> Any:
    """On a CPU, the server that forks Ray's workers, and a quick way to it, unless the user names their interpreter."""
    if config.trainer.device != "cpu" or config.ray_kwargs.ray_init.runtime_env.get("py_executable"):
        return None
    from verl.trainer.constants_ppo import get_ppo_ray_runtime_env

    from verl_care.platforms.cpu import ray_worker
    from verl_care.platforms.cpu.forkserver import ForkServer

    variables = {**get_ppo_ray_runtime_env(config)["env_vars"], **config.ray_kwargs.ray_init.runtime_env.env_vars}
    server = ForkServer({name: str(value) for name, value in variables.items()})
    ray_worker.use()
    return server


def _tidy(segments: Any, server: Any) -> None:
    import ray

    if ray.is_initialized():
        ray.shutdown()
    if server is not None:
        server.stop()
    segments.remove_new()
