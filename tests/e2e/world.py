"""What the end-to-end tests train on: the quick start's own data and model, but little of it."""

from __future__ import annotations

import shutil
from pathlib import Path

from data_prep import miniature, seed_bench_r1
from recipes.quickstart.stages import CHECKPOINT


def write_world(home: Path) -> None:
    miniature.write_world(home / "world", seed=0, rows=32, level_rows=4)
    seed_bench_r1.convert(home / "world", home / "data", style="plain")


def write_model(folder: Path) -> None:
    shutil.copytree(CHECKPOINT, folder)
