"""From a step of a recorded training on, sampled anew: does the format go, and does it come back?

    python -m recipes.evidence.replay.collapse TRAINING --model WARM_START --data DATA --after 173 175 176

The training is made once more as far as each of these steps (`updates.py`), and from its weights and its optimizer's
state the simulator goes on, several times, with other questions and other samples. verl has no part in it; rewards,
bonus and advantages are verl_care's functions.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

import pyarrow.parquet as pq
import torch
from omegaconf import OmegaConf
from rich.console import Console
from rich.progress import track
from rich.table import Table
from transformers import AutoProcessor

from recipes.evidence.replay.updates import Replay, replay, update_of
from recipes.evidence.simulator import KL, TUNING_SEEDS, Settings, Simulator
from recipes.quickstart.examples import Example, load_chunk

QUESTIONS = 512  # of the training set, for all samplings
LAST = 5  # steps
BROKEN = 0.5  # share of a step's responses in the format, below which it is broken

METHODS = {  # care.bonus, a KL term, care.reference
    ("none", False, "ema"): "no_kl",
    ("none", True, "frozen"): "grpo",
    ("hard", False, "ema"): "care",
    ("hard", False, "frozen"): "frozen",
    ("dense", False, "ema"): "dense_cons",
}
WANTED = {
    "care.bonus_coefficient": 0.5,
    "care.confidence_upper_bound": 0.95,
    "care.accuracy_threshold": 0.1,
    "actor_rollout_ref.actor.kl_loss_coef": KL,
}
"""What the simulator has."""


def settings_of(config: Any, seed: int) -> Settings:
    """The simulator's settings for a training of verl.

    Raises:
        ValueError: naming what the simulator does not have.
    """
    update, actor = update_of(config), config.actor_rollout_ref.actor
    kind = (config.care.bonus, actor.use_kl_loss, config.care.reference)
    if kind not in METHODS:
        bonus, kl, reference = kind
        raise ValueError(f"care.bonus={bonus}, use_kl_loss={kl}, care.reference={reference}: not in the simulator")
    for key, wanted in WANTED.items():
        found = OmegaConf.select(config, key)
        if found != wanted and (update.kl or not key.endswith("kl_loss_coef")):
            raise ValueError(f"{key} was {found}: the simulator has {wanted}")
    return Settings(
        method=METHODS[kind],
        seed=seed,
        lr=update.lr,
        clip=update.clip,
        prompts=config.data.train_batch_size,
        group=config.actor_rollout_ref.rollout.n,
        margin=config.care.consistency_margin,
        decay=config.care.ref_ema_decay,
        every=config.care.ref_ema_update_every,
    )


def go_on(made: Replay, processor: Any, settings: Settings, rows: Sequence[Example], steps: int) -> list[float]:
    """The share of responses in the format at each of so many steps behind a replay, at the rate of `settings`."""
    torch.manual_seed(settings.seed)
    simulator = Simulator(deepcopy(made.policy), processor, settings)
    simulator.reference = deepcopy(made.reference)
    simulator.optimizer.load_state_dict(deepcopy(made.optimizer.state_dict()))
    for weights in simulator.optimizer.param_groups:
        weights["lr"] = settings.lr
    simulator.steps = made.steps
    return [simulator.step(rows)["format"] for _ in range(steps)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("training", type=Path)
    parser.add_argument("--model", type=Path, required=True, help="the warm start it began with")
    parser.add_argument("--data", type=Path, required=True, help="folder of converted parquet files")
    parser.add_argument("--after", type=int, nargs="+", required=True, help="steps to go on from")
    parser.add_argument("--samplings", type=int, default=8)
    parser.add_argument("--steps", type=int, default=16, help="of each sampling")
    parser.add_argument("--lr", type=float, help="of the steps that are sampled anew (default: the training's)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    console, config = Console(highlight=False), OmegaConf.load(arguments.training / "config.yaml")
    processor = AutoProcessor.from_pretrained(arguments.model)
    questions = pq.read_table(arguments.data / "training_6k.parquet").slice(length=QUESTIONS).to_pylist()

    table = Table(
        "after step", title=f"{arguments.samplings} samplings of {arguments.steps} steps", title_justify="left"
    )
    lowest, last = "least in the format, of a step", f"in the format, last {LAST} steps"
    for name in (f"{lowest}: median", "lowest", f"below {BROKEN:g} once", f"{last}: median", "lowest", "none"):
        table.add_column(name, justify="right")
    rows: list[Example] = []
    done: set[int] = set()
    updates = replay(arguments.training, arguments.model, arguments.data, max(arguments.after))
    for step, _, made in track(updates, "updates", total=max(arguments.after), console=console, transient=True):
        if step not in arguments.after:
            continue
        rows = rows or load_chunk(questions, processor, made.policy)
        seeds = range(TUNING_SEEDS, TUNING_SEEDS + arguments.samplings)
        settings = [settings_of(config, seed) for seed in seeds]
        if arguments.lr:
            settings = [replace(each, lr=arguments.lr) for each in settings]
        runs = [go_on(made, processor, each, rows, arguments.steps) for each in settings]
        least = [min(run) for run in runs]
        end = [fmean(run[-LAST:]) for run in runs]
        broken, gone = sum(share < BROKEN for share in least), sum(share == 0 for share in end)
        shares = (f"{share:.2f}" for share in (median(least), min(least)))
        ends = (f"{share:.2f}" for share in (median(end), min(end)))
        done.add(step)
        table.add_row(str(step), *shares, str(broken), *ends, str(gone))
    console.print(table)
    if missing := set(arguments.after) - done:
        parser.error(f"{arguments.training} has no step {', '.join(map(str, sorted(missing)))}")


if __name__ == "__main__":
    main()
