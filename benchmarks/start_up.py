"""Seconds from the command to a served model on a CPU: processes forked from one that has imported, or each its own.

python -m benchmarks.start_up [--repeats N]

The quick start's command, model and configuration, on a handful of clips. The rival is the same run with Ray's own
interpreter (`ray_kwargs.ray_init.runtime_env.py_executable`), which is how verl starts otherwise.
"""

from __future__ import annotations

import argparse
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tqdm import tqdm

from recipes.quickstart.stages import training_command

CHECKPOINT = Path(__file__).parents[1] / "recipes" / "quickstart" / "checkpoint"
SERVED = "all initialize finished"  # verl, when worker and vLLM are up
LIMIT_S = 400


def write_data(home: Path) -> None:
    for command in (
        ["data_prep.miniature", "--out", home / "world", "--rows", "16", "--level-rows", "4"],
        ["data_prep.seed_bench_r1", home / "world", "--out", home / "data", "--prompt", "plain"],
    ):
        subprocess.run([sys.executable, "-m", *map(str, command)], check=True, capture_output=True)


def start_up(home: Path, *overrides: str) -> tuple[float, float]:
    """Seconds until the model is served, and until one step is done and everything has ended."""
    command = training_command(
        f"quickstart='{home}'", f"actor_rollout_ref.model.path='{CHECKPOINT}'",
        f"trainer.default_local_dir='{home}/training'", "trainer.resume_mode=disable",
        "trainer.val_before_train=false", "trainer.test_freq=-1", "trainer.save_freq=-1",
        "trainer.total_training_steps=1", *overrides,
    )  # fmt: skip
    began, served = time.monotonic(), None
    with subprocess.Popen(command, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if SERVED in line and served is None:
                served = time.monotonic() - began
            if time.monotonic() - began > LIMIT_S:
                process.terminate()
    if process.returncode or served is None:
        raise SystemExit(f"the run ended with exit code {process.returncode} and served {served}: {' '.join(command)}")
    return served, time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description="Start-up on a CPU, forked and not.")
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args()
    ways = {
        "each process its own": [f'ray_kwargs.ray_init.runtime_env.py_executable="{shlex.quote(sys.executable)}"'],
        "forked": [],
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as folder:
        write_data(Path(folder))
        for name, overrides in tqdm([*ways.items()] * options.repeats, unit="start"):
            times[name].append(start_up(Path(folder), *overrides))
    medians = {name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in times.items()}
    for name, (served, ended) in medians.items():
        print(f"{name:<22} served after {served:6.1f} s   one step and the end {ended:6.1f} s")
    stock, ours = (medians[name][0] for name in ways)
    print(f"{stock / ours:.1f} times sooner")


if __name__ == "__main__":
    main()
