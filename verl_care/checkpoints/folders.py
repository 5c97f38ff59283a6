"""Which checkpoints of a run are complete. A run may be killed at any moment, also while it saves.

verl writes a folder piece by piece and then the file `latest_checkpointed_iteration.txt`, in place. Ours
adds a mark as the very last thing, and resumes only from a folder that bears it and has every file.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from verl_care.reference import shard_file_name

logger = logging.getLogger(__name__)

MARK = "care_complete.json"
REFERENCE = "reference"
_STEP = "global_step_"


class Mark(NamedTuple):
    """What a complete checkpoint says of itself."""

    world_size: int
    """How many ranks saved it; on as many it can be resumed."""
    has_reference: bool


def step_of(folder: Path) -> int | None:
    """The step a folder's name says, or None for another folder."""
    number = folder.name.removeprefix(_STEP)
    return int(number) if folder.name.startswith(_STEP) and number.isdecimal() else None


def mark_complete(folder: str | os.PathLike, *, world_size: int, has_reference: bool) -> None:
    """Say that everything of this checkpoint is on disk; the last write of a save."""
    unfinished = Path(folder) / (MARK + ".unfinished")
    unfinished.write_text(json.dumps(Mark(world_size, has_reference)._asdict()))
    os.replace(unfinished, unfinished.with_name(MARK))


def mark_of(folder: str | os.PathLike) -> Mark:
    """The mark of a complete checkpoint.

    Raises:
        OSError, ValueError, KeyError, TypeError: there is none that can be read.
    """
    mark = json.loads((Path(folder) / MARK).read_text())
    return Mark(int(mark["world_size"]), bool(mark["has_reference"]))


def missing_files(folder: str | os.PathLike) -> list[str]:
    """What a checkpoint lacks; empty if it is complete."""
    folder = Path(folder)
    try:
        world_size, has_reference = mark_of(folder)
    except (OSError, ValueError, KeyError, TypeError):  # not there, or cut off: the machine stopped before it was whole
        return [MARK]
    ranks = range(world_size)
    wanted = ["data.pt"]
    for part in ("model", "optim", "extra_state"):
        wanted += [f"actor/{part}_world_size_{world_size}_rank_{rank}.pt" for rank in ranks]
    if has_reference:
        wanted += [f"{REFERENCE}/{shard_file_name(rank, world_size)}" for rank in ranks]
    return [name for name in wanted if not _is_written(folder / name)]


def _is_written(file: Path) -> bool:
    return file.is_file() and file.stat().st_size > 0


def latest_complete(root: str | os.PathLike) -> tuple[Path | None, dict[str, list[str]]]:
    """The newest complete checkpoint under `root`, and what each newer folder lacks."""
    incomplete: dict[str, list[str]] = {}
    for folder in reversed(_by_step(Path(root))):
        missing = missing_files(folder)
        if not missing:
            return folder, incomplete
        incomplete[folder.name] = missing
    return None, incomplete


def complete(root: str | os.PathLike) -> list[Path]:
    """The complete checkpoints under `root`, oldest first."""
    return [folder for folder in _by_step(Path(root)) if not missing_files(folder)]


def _by_step(root: Path) -> list[Path]:
    folders = [folder for folder in root.glob(f"{_STEP}*") if folder.is_dir() and step_of(folder) is not None]
    return sorted(folders, key=lambda folder: step_of(folder) or 0)


def keep_newest(saved: Sequence[Path], keep: int | None) -> list[Path]:
    """Delete the actor of all but the last `keep` of these checkpoints, oldest first; None, or below 1, keeps all.

    Returns:
        The ones that are kept. `remove_orphans` sees to the rest of the others.
    """
    surplus = max(0, len(saved) - keep) if keep and keep > 0 else 0
    for folder in saved[:surplus]:
        _removed(folder / "actor")
    return list(saved[surplus:])


def remove_orphans(root: str | os.PathLike) -> list[str]:
    """Delete the reference of checkpoints whose actor is gone (`trainer.max_actor_ckpt_to_keep`)."""
    removed = []
    for mark in Path(root).glob(f"{_STEP}*/{MARK}"):
        if not (mark.parent / "actor").exists() and _removed(mark.parent / REFERENCE):
            mark.unlink()  # last: whoever is killed before finds it again
            removed.append(mark.parent.name)
    return removed


def _removed(folder: Path) -> bool:
    """True if the folder is gone. One that stays is told, and ends no run: the new checkpoint is there."""
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return True
    except OSError as error:
        logger.warning("%s: this part of an old checkpoint cannot be removed, and stays on disk (%s)", folder, error)
        return False
    return True
