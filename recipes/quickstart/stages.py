"""The steps of the quick start. Each one looks whether it has been done, and leaves its result whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from verl_care.checkpoints import folders

CHECKPOINT = Path(__file__).parent / "checkpoint"
RAY_GAVE_UP = b"The current node timed out during startup"
WAS_BUSY = "Ray gives itself 30 s to start, and this machine was too busy: call again when it is less so"
LAST_WORDS = 20_000  # bytes of a log
TRAINING_MINUTES = 20  # a run that hangs is ended; a healthy one takes less than half of it


class StageFailed(RuntimeError):
    """A step did not finish; the message says where its log is."""


def write_data(out: Path, console: Console) -> None:
    """The miniature world in SEED-Bench-R1's file layout, and its conversion to verl's parquet."""
    if (out / "data" / "validation_L3.parquet").exists():
        console.print("data        there from an earlier call")
        return
    with timed("data", console):
        python(out / "data.log", "-m", "data_prep.miniature", "--out", out / "world")
        python(
            out / "data.log", "-m", "data_prep.seed_bench_r1", out / "world", "--out", out / "data", "--prompt", "plain"
        )


def warm_start(out: Path, console: Console) -> None:
    """A small Qwen2.5-VL that knows the format, and whose letter only loosely follows from its conclusion.

    It comes with the repository; `recipes/quickstart/checkpoint/README.md` has the command that makes it again.
    """
    if (out / "model" / "config.json").exists():
        console.print("warm start  there from an earlier call")
        return
    unfinished = out / "model.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.copytree(CHECKPOINT, unfinished)
    unfinished.rename(out / "model")
    console.print("warm start  the checkpoint of the repository")


def train(out: Path, console: Console, overrides: Sequence[str] = (), minutes: float = TRAINING_MINUTES) -> None:
    """Training with a bar that shows how far it is."""
    total = total_steps(overrides)
    if trained(out, total):
        console.print("training    there from an earlier call")
        return
    columns = [SpinnerColumn(), TextColumn("training    {task.description}"), BarColumn(), MofNCompleteColumn()]
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task("starting Ray, FSDP and vLLM (about a minute)", total=total)

        def show(step: int, logged: Mapping[str, float]) -> None:
            values = {name: logged.get(f"care/{name}") for name in ("accuracy", "bonus_rate")}
            shown = "  ".join(f"{name} {value:.2f}" for name, value in values.items() if value is not None)
            bar.update(task, completed=step, description=shown or "validation before training")

        run_training(out, overrides, minutes, show)
    console.print(f"training    {total} steps")


def trained(out: Path, total: int) -> bool:
    """Whether the last step has its checkpoint and its validation."""
    folder = out / "training"
    newest, _ = folders.latest_complete(folder)
    there = newest is not None and folders.step_of(newest) == total
    return there and (folder / f"validation/{total}.jsonl").exists()


def run_training(
    out: Path, overrides: Sequence[str], minutes: float, tell: Callable[[int, Mapping[str, float]], None]
) -> None:
    """verl's own entry point with `--config-name care_quickstart`; resumes where a killed run stopped.

    `tell` hears twice a second which step was logged last, and what of it; what it raises ends the training.
    """
    folder = out / "training"
    log = folder / "train.log"
    folder.mkdir(parents=True, exist_ok=True)
    with _running(training_command(f"quickstart='{out}'", *overrides), log, cwd=out) as process:
        deadline = time.monotonic() + 60 * minutes
        while process.poll() is None:
            if time.monotonic() > deadline:
                raise StageFailed(f"training has run for {minutes:g} minutes and was ended; its log: {log}")
            last = _last_step(folder / "metrics.jsonl")
            if last:
                tell(last["step"], last["data"])
            time.sleep(0.5)
    if process.returncode:
        known = f". {WAS_BUSY}" if RAY_GAVE_UP in log.read_bytes()[-LAST_WORDS:] else ""
        raise StageFailed(
            f"training ended with exit code {process.returncode}; the reason is at the end of {log}{known}"
        )


def training_command(*overrides: str) -> list[str]:
    """The user's command. Paths in `overrides` that may hold spaces are to be quoted for Hydra."""
    return [sys.executable, "-m", "verl.trainer.main_ppo", "--config-name", "care_quickstart", *overrides]


def total_steps(overrides: Sequence[str]) -> int:
    """How many steps this call trains for: the configuration's number, or the override's."""
    from hydra import compose, initialize_config_module

    with initialize_config_module("verl.trainer.config", version_base=None):
        return int(compose("care_quickstart", list(overrides)).trainer.total_training_steps)


def merge(out: Path, console: Console) -> None:
    """verl's model merger makes a Hugging Face folder; transformers loads it again."""
    newest, _ = folders.latest_complete(out / "training")
    merged = out / "merged"
    if newest is None:
        raise StageFailed(f"no complete checkpoint in {out / 'training'}")
    if (merged / "from").exists() and (merged / "from").read_text() == newest.name:
        console.print("merge       there from an earlier call")
        return
    with timed("merge", console):
        shutil.rmtree(merged, ignore_errors=True)
        python(
            out / "merge.log", "-m", "verl.model_merger", "merge", "--backend", "fsdp",
            "--local_dir", newest / "actor", "--target_dir", merged,
        )  # fmt: skip
        from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

        Qwen2_5_VLForConditionalGeneration.from_pretrained(merged)
        AutoProcessor.from_pretrained(merged)
        (merged / "from").write_text(newest.name)


def _last_step(metrics: Path) -> dict | None:
    """The last complete line of verl's file logger, or None while there is none."""
    if not metrics.exists():
        return None
    lines = metrics.read_bytes().split(b"\n")[:-1]
    return json.loads(lines[-1]) if lines else None


def python(log: Path, *arguments: object) -> None:
    command = [sys.executable, *map(str, arguments)]
    with log.open("a") as file:
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        raise StageFailed(f"`{' '.join(command[1:4])}` ended with exit code {done.returncode}; its log: {log}")


@contextmanager
def _running(command: Sequence[str], log: Path, cwd: Path) -> Iterator[subprocess.Popen]:
    """A child that leads its own process group, so that leaving ends it and every process it started."""
    with log.open("a") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, cwd=cwd, start_new_session=True)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()  # the driver ends Ray and tidies up
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def timed(name: str, console: Console) -> Iterator[None]:
    began = time.monotonic()
    with console.status(f"{name} ..."):
        yield
    console.print(f"{name:<11} {time.monotonic() - began:.0f} s")
