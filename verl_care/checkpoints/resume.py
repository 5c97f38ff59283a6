"""Where a run goes on: the newest complete checkpoint, the one that is named, or nowhere. Said or refused clearly.

A run that goes on from an earlier step ends the branch that was trained behind it: `begin` clears it away.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from omegaconf import DictConfig

from verl_care.checkpoints import folders
from verl_care.report.dumps import ROLLOUTS, VALIDATION

logger = logging.getLogger(__name__)

METRICS, CONFIG = "metrics.jsonl", "config.yaml"


def newest(root: Path) -> Path | None:
    """The newest complete checkpoint under `root`; the log says what was passed over, and if there is none."""
    folder, incomplete = folders.latest_complete(root)
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
    missing = folders.missing_files(folder)
    if missing:
        raise FileNotFoundError(
            f"trainer.resume_from_path={folder} is no complete checkpoint of this trainer: no"
            f" {', '.join(missing[:3])}. Name another folder, or set trainer.resume_mode=auto for the newest complete"
            " one"
        )
    saved = folders.mark_of(folder).world_size
    if saved != ranks:
        raise ValueError(
            f"{folder} was saved by {saved} ranks, and this run has {ranks}: every rank reads its own shards. Set"
            " trainer.nnodes and trainer.n_gpus_per_node as they were"
        )


def begin(root: Path, step: int) -> None:
    """Make `root` the folder of a training that goes on behind `step`: what is there of later steps is void.

    Metrics stay, in a part that says how far they count. Checkpoints and dumps go to `abandoned_<n>`, with the
    configuration that made them, so that nothing finds them and one can still go on from them. A start at step 0 has
    nothing before it, not even a validation.
    """
    keep_metrics(root / METRICS, step)
    last = step or -1
    later = [folder for folder in folders.complete(root) if (folders.step_of(folder) or 0) > last]
    dumps = [dump for name in (VALIDATION, ROLLOUTS) for dump in _dumps(root / name, last)]
    if not later and not dumps:
        return
    aside = _free(root / "abandoned")
    aside.mkdir()
    if (root / CONFIG).exists():
        shutil.copy(root / CONFIG, aside)
    for path in (*reversed(later), *dumps):  # the newest first: after a kill here it is not what is found
        place = aside / path.relative_to(root)
        place.parent.mkdir(exist_ok=True)
        path.rename(place)
    moved = ", ".join([*(folder.name for folder in later), *([f"{len(dumps)} dumps"] if dumps else ())])
    logger.warning("training begins behind step %d: %s of an earlier branch moved to %s", step, moved, aside)


def beside(root: Path) -> Path:
    """`root`, or a new folder in it if it holds a run's records; for a start that trains nothing."""
    if not (root / CONFIG).exists():
        return root
    return _free(root / "val_only")


def move_dumps(trainer: DictConfig, run: Path, root: Path) -> None:
    """Where verl is to put dumps that would lie in the folder `run`: at the same place of `root`."""
    for key in ("validation_data_dir", "rollout_data_dir"):
        if (folder := trainer.get(key)) and run in (path := Path(folder).absolute()).parents:
            trainer[key] = str(root / path.relative_to(run))


def _free(path: Path) -> Path:
    """`path` with the first number that no other has."""
    return next(place for place in (path.with_name(f"{path.name}_{n}") for n in count(1)) if not place.exists())


def _dumps(folder: Path, last: int) -> Iterator[Path]:
    """verl's dumps there of steps behind `last`."""
    for path in folder.glob("*.jsonl"):
        if path.stem.isdecimal() and int(path.stem) > last:
            yield path


def keep_metrics(log: Path, step: int) -> None:
    """Keep what was logged before a run goes on from `step`: verl's file logger starts its file anew.

    A run that goes on from the same step twice has a part of each time.
    """
    if log.exists():
        names = (f"{log.stem}.until_step_{step}{f'.{time}' if time > 1 else ''}.jsonl" for time in count(1))
        log.rename(next(part for part in map(log.with_name, names) if not part.exists()))
