"""Where a run goes on: the newest complete checkpoint, the one that is named, or nowhere. Said or refused clearly."""

from __future__ import annotations

import logging
from itertools import count
from pathlib import Path

from verl_care import checkpoints

logger = logging.getLogger(__name__)


def newest(root: Path) -> Path | None:
    """The newest complete checkpoint under `root`; the log says what was passed over, and if there is none."""
    folder, incomplete = checkpoints.latest_complete(root)
    for name, missing in incomplete.items():
        logger.warning("checkpoint %s is incomplete (no %s): passed over", name, ", ".join(missing[:3]))
    if folder is None:
        found = "only incomplete checkpoints" if incomplete else "no checkpoint"
        logger.warning("%s in %s: training starts at step 0", found, root)
    return folder


def check(folder: str, ranks: int) -> None:
    """Refuse a checkpoint that is not whole, or that another number of ranks has saved.

    Raises:
        FileNotFoundError: naming what it lacks.
        ValueError: naming both numbers.
    """
    missing = checkpoints.missing_files(folder)
    if missing:
        raise FileNotFoundError(
            f"trainer.resume_from_path={folder} is no complete checkpoint of this trainer: no"
            f" {', '.join(missing[:3])}. Name another folder, or set trainer.resume_mode=auto for the newest complete"
            " one"
        )
    saved = checkpoints.world_size_of(folder)
    if saved != ranks:
        raise ValueError(
            f"{folder} was saved by {saved} ranks, and this run has {ranks}: every rank reads its own shards. Set"
            " trainer.nnodes and trainer.n_gpus_per_node as they were"
        )


def keep_metrics(log: Path, step: int) -> None:
    """Keep what was logged before a run goes on from `step`: verl's file logger starts its file anew.

    A run that goes on from the same step twice has a part of each time.
    """
    if log.exists():
        names = (f"{log.stem}.until_step_{step}{f'.{time}' if time > 1 else ''}.jsonl" for time in count(1))
        log.rename(next(part for part in map(log.with_name, names) if not part.exists()))
