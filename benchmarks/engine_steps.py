"""Seconds of a training step on a CPU: vLLM's engine gathers a batch's requests first, or steps with the first one.

python -m benchmarks.engine_steps [--steps N] [--overrides KEY=VALUE ...]

The quick start's command and model on a handful of clips, once with `VERL_CARE_GATHERED_S=0`, which is vLLM as it is,
and once as a CPU run has it. Both sleep instead of spinning, see `verl_care/platforms/cpu/vllm.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
from pathlib import Path

from tqdm import tqdm

from benchmarks.start_up import CHECKPOINT, write_data
from recipes.quickstart.stages import training_command

WARM_UP = 3  # steps
STAGES = ("gen", "ref", "update_actor", "step")
LIMIT_S = 600


def train(home: Path, name: str, steps: int, environment: dict[str, str], overrides: list[str]) -> dict[str, float]:
    """Stage -> median seconds of the steps behind the warm-up."""
    folder = home / name.replace(" ", "_")
    command = training_command(
        f"quickstart='{home}'", f"actor_rollout_ref.model.path='{CHECKPOINT}'",
        f"trainer.default_local_dir='{folder}'", "trainer.logger=[file]",
        "trainer.val_before_train=false", "trainer.test_freq=-1", "trainer.save_freq=-1",
        f"trainer.total_training_steps={steps}", *overrides,
    )  # fmt: skip
    inherited = os.environ | environment
    done = subprocess.run(command, cwd=home, env=inherited, capture_output=True, text=True, timeout=LIMIT_S)
    if done.returncode:
        raise SystemExit(f"the run ended with exit code {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    logged = [json.loads(line)["data"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    timed = [step for step in logged if "timing_s/step" in step][WARM_UP:]
    return {stage: statistics.median(step[f"timing_s/{stage}"] for step in timed) for stage in STAGES}


def main() -> None:
    parser = argparse.ArgumentParser(description="A training step on a CPU, requests gathered and not.")
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--overrides", nargs="*", default=[], help="of the quick start, e.g. data.train_batch_size=4")
    options = parser.parse_args()
    ways = {"as they come": {"VERL_CARE_GATHERED_S": "0"}, "gathered": {}}
    with tempfile.TemporaryDirectory() as home:
        write_data(Path(home))
        medians = {
            name: train(Path(home), name, options.steps, environment, options.overrides)
            for name, environment in tqdm(ways.items(), unit="run")
        }
    for name, found in medians.items():
        print(f"{name:<14}" + "   ".join(f"{stage} {seconds:6.2f} s" for stage, seconds in found.items()))
    stock, ours = medians.values()
    print("   ".join(f"{stage} {stock[stage] / ours[stage]:.2f} times sooner" for stage in STAGES))


if __name__ == "__main__":
    main()
