"""The runs of the evidence, as many side by side as there are cores; whatever is done is kept.

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
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from threading import Event

from rich.console import Console

from data_prep.miniature_world import LEVELS
from recipes.evidence.plan import Plan, Run
from recipes.evidence.results import result_of
from recipes.evidence.temptation import RELIABILITY, tempt
from recipes.quickstart import stages

MINUTES = 60  # a training that hangs is ended


class Stopped(RuntimeError):
    """The evidence was told to stop while a training went on; calling it again goes on with that training."""


@dataclass
class Evidence:
    out: Path
    results: Path
    plan: Plan
    tell: Callable[[Run, int], None] = lambda run, step: None
    """Hears of a run's steps while it goes on, and of the last one when it is done."""
    stopped: Event = field(default_factory=Event)

    def result(self, run: Run) -> Path:
        return self.results / f"{run.name}.json"

    def make(self, jobs: int, console: Console) -> None:
        """Every run of the plan that has no result yet. One that fails is tried once more when the others are done:
        Ray gives a node 30 s to start, which is too short while the machine is busy.

        Raises:
            stages.StageFailed: naming what did not finish, when all the rest has; calling again goes on there.
        """
        missing = [run for run in self.plan if not self.result(run).exists()]
        for run in self.plan:
            if run not in missing:
                self.tell(run, self.plan.steps)
        if not missing:
            return
        self.out.mkdir(parents=True, exist_ok=True)
        stages.write_data(self.out, console)
        tempt(self.out / "data", RELIABILITY, seed=0)
        failures = self._round(missing, jobs, console)
        again = [run for run in missing if run.name in failures and self._has_warm_start(run.seed)]
        if again:
            console.print(f"once more: {', '.join(run.name for run in again)}")
            failures = {name: why for name, why in failures.items() if name not in {run.name for run in again}}
            failures |= self._round(again, jobs, console)
        if failures:
            raise stages.StageFailed("\n".join(f"{name}: {why}" for name, why in failures.items()))

    def _round(self, missing: Sequence[Run], jobs: int, console: Console) -> dict[str, str]:
        """What failed, and why. A failure does not end the others: an evidence goes on for hours unwatched."""
        failures = {}
        with _a_core_each(jobs) as pool:
            try:
                seeds = sorted({run.seed for run in missing})
                starts = {seed: pool.submit(self.warm_start, seed) for seed in seeds}  # begin before any run asks
                runs = {run.name: pool.submit(self.finish, run, starts[run.seed]) for run in missing}
                named = {f"warm start {seed}": start for seed, start in starts.items()} | runs
                names = {future: name for name, future in named.items()}
                for future in as_completed(names):
                    try:
                        console.print(f"{names[future]:<16} {future.result()}", soft_wrap=True)
                    except stages.StageFailed as failure:
                        failures[names[future]] = str(failure)
                        console.print(f"{names[future]}: {failure}", style="bold red", markup=False, soft_wrap=True)
            except BaseException:
                self.stopped.set()  # trainings under way hear of it at their next step
                pool.shutdown(cancel_futures=True)
                raise
        return failures

    def _has_warm_start(self, seed: int) -> bool:
        return (self.out / "models" / str(seed) / "model.safetensors").exists()

    def warm_start(self, seed: int) -> str:
        """The seed decides its first weights and what it is taught in which order."""
        model = self.out / "models" / str(seed)
        if self._has_warm_start(seed):
            return "there from an earlier call"
        began = time.monotonic()
        arguments = ("--data", self.out / "data", "--out", model, "--seed", seed)
        stages.python(self.out / f"warm_start_{seed}.log", "-m", "recipes.evidence.warm_start", *arguments)
        return f"{time.monotonic() - began:.0f} s"

    def finish(self, run: Run, warm_start: Future[str]) -> str:
        """Train, measure, and leave a result. The quick start's layout: data and model beside it, as links."""
        if warm_start.exception():
            raise stages.StageFailed("has no warm start")
        self._go_on(run, 0)
        folder, began, steps = self.out / "runs" / run.name, time.monotonic(), self.plan.steps
        folder.mkdir(parents=True, exist_ok=True)
        for name, target in (("data", self.out / "data"), ("model", self.out / "models" / str(run.seed))):
            if not (folder / name).is_symlink():
                (folder / name).symlink_to(os.path.relpath(target, folder))
        try:
            if not stages.trained(folder, steps):
                stages.run_training(folder, run.overrides(steps), MINUTES, lambda step, _: self._go_on(run, step))
        finally:
            seconds = _add_seconds(folder, time.monotonic() - began)
        stages.merge(folder, Console(quiet=True))
        arguments = ("--model", folder / "merged", "--data", self.out / "data", "--out", folder)
        stages.python(folder / "greedy.log", "-m", "recipes.evidence.greedy", *arguments)
        result = result_of(run, folder / "training", seconds)
        result["steps"] = steps
        self.results.mkdir(parents=True, exist_ok=True)
        unfinished = self.result(run).with_suffix(".unfinished")
        unfinished.write_text(json.dumps(result, indent=1) + "\n")
        unfinished.rename(self.result(run))
        for weights in (*(folder / "training").glob("global_step_*"), folder / "merged"):
            shutil.rmtree(weights)
        self.tell(run, steps)
        last = result["validation"][-1]
        shown = "  ".join(
            f"{level} {last[level]['accuracy']:.3f} / {last[level]['consistency']:.3f}" for level in LEVELS
        )
        return f"{seconds:.0f} s  accuracy / consistency {shown}"

    def _go_on(self, run: Run, step: int) -> None:
        if self.stopped.is_set():
            raise Stopped(run.name)
        self.tell(run, step)


def _add_seconds(folder: Path, seconds: float) -> float:
    """Time spent on a run, over all calls that went on with it."""
    spent = folder / "seconds"
    total = seconds + (float(spent.read_text()) if spent.exists() else 0.0)
    spent.write_text(f"{total:.1f}")
    return total


def _a_core_each(jobs: int) -> ThreadPoolExecutor:
    """Threads whose child processes stay on a core of their own, where the system can say so: runs that share two
    cores wait for each other's threads."""
    if not hasattr(os, "sched_setaffinity"):
        return ThreadPoolExecutor(jobs)
    available = sorted(os.sched_getaffinity(0))
    shares: SimpleQueue[set[int]] = SimpleQueue()
    for job in range(jobs):
        shares.put(set(available[job::jobs]) or set(available))
    return ThreadPoolExecutor(jobs, initializer=lambda: os.sched_setaffinity(0, shares.get()))
