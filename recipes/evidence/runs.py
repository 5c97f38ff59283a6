"""One run of the evidence after another: data and warm starts once, a training, its numbers; whatever is done is kept.

OUT/data                       rows with the temptation, shared by all
OUT/models/SEED                warm starts
OUT/runs/VARIANT_SEED          a training while it goes on
RESULTS/VARIANT_SEED.json      what it measured; where this file is, the run is done
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from recipes.evidence.greedy import examine
from recipes.evidence.plan import Plan, Run
from recipes.evidence.results import result_of, rounded
from recipes.evidence.temptation import RECORD, tempt
from recipes.quickstart import stages

RELIABILITY = 0.9
MINUTES = 60  # a training that hangs is ended


def write_data(out: Path, console: Console) -> None:
    stages.write_data(out, console)
    if not (out / "data" / RECORD).exists():
        tempt(out / "data", RELIABILITY, seed=0)


def warm_start(out: Path, seed: int, console: Console) -> Path:
    """The warm start of this seed: its first weights and what it is taught in which order."""
    model = out / "models" / str(seed)
    if not (model / "model.safetensors").exists():
        arguments = ("-m", "recipes.evidence.warm_start", "--data", out / "data", "--out", model, "--seed", seed)
        with stages.timed(f"warm start {seed}", console):
            stages.python(out / "warm_starts.log", *arguments)
    return model


def train(out: Path, run: Run, steps: int, console: Console) -> Path:
    """The folder of the training, complete. The quick start's layout: data and model beside it, as links."""
    folder = out / "runs" / run.name
    folder.mkdir(parents=True, exist_ok=True)
    for name, target in (("data", out / "data"), ("model", out / "models" / str(run.seed))):
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(os.path.relpath(target, folder))
    stages.train(folder, console, run.overrides(steps), minutes=MINUTES)
    return folder / "training"


def make(plan: Plan, out: Path, results: Path, console: Console, done: Callable[[Run], None]) -> None:
    """Every run of the plan that has no result yet. `done` is called after each, the old ones too.

    Raises:
        stages.StageFailed: a stage did not finish; calling again goes on where it stopped.
    """
    write_data(out, console)
    for run in plan:
        target = results / f"{run.name}.json"
        if not target.exists():
            warm_start(out, run.seed, console)
            began = time.monotonic()
            training = train(out, run, plan.steps, console)
            result = result_of(run, training, time.monotonic() - began) | {"steps": plan.steps}
            stages.merge(training.parent, console)
            result |= rounded(examine(training.parent / "merged", out / "data"))
            results.mkdir(parents=True, exist_ok=True)
            unfinished = target.with_suffix(".unfinished")
            unfinished.write_text(json.dumps(result, indent=1) + "\n")
            unfinished.rename(target)
            for weights in (*training.glob("global_step_*"), training.parent / "merged"):
                shutil.rmtree(weights)
        done(run)
