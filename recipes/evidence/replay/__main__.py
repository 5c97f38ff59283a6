"""Were a training's updates GRPO's? What verl logged of them, beside what they are without verl.

    python -m recipes.evidence.replay TRAINING --model WARM_START --data DATA

`TRAINING` has the `config.yaml`, `metrics.jsonl` and `groups.jsonl.zst` that a run of the evidence leaves; two are in
`died/`. Each step's gradient norm, and the entropy of the policy before it, are compared. Differences of rounding grow
over hundreds of steps. `moved` is the root mean square of what a step changed the weights by, in learning rates.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from recipes.evidence.learner import Step
from recipes.evidence.replay.updates import replay
from recipes.quickstart.report import read_metrics

ROWS = 20  # steps to a row of the table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("training", type=Path)
    parser.add_argument("--model", type=Path, required=True, help="the warm start it began with")
    parser.add_argument("--data", type=Path, required=True, help="folder of converted parquet files")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    console, logged = Console(highlight=False), read_metrics(arguments.training)
    total = max(logged)
    steps = replay(arguments.training, arguments.model, arguments.data)
    made, spelled = dict[int, Step](), ""
    for step, found, last in track(steps, "updates", total=total, console=console, transient=True):
        made[step] = found
        spelled = f"respelled: {last.respelled} responses; in no known way: {last.lost}"
    table = Table("steps", title="logged by verl, and made here", title_justify="left")
    for name in ("largest gradient", "here", "differs, median", "at most", "entropy", "here", "moved, most"):
        table.add_column(name, justify="right")
    for first in range(1, total + 1, ROWS):
        part = [step for step in range(first, min(first + ROWS, total + 1)) if step in made]
        table.add_row(f"{first}-{part[-1]}", *_cells(part, logged, made))
    console.print(table)
    console.print(spelled)


def _cells(part: Sequence[int], logged: Mapping[int, Mapping[str, float]], made: Mapping[int, Step]) -> Iterator[str]:
    gradients = torch.tensor([[logged[step]["actor/grad_norm"], made[step].gradient] for step in part])
    logged_N, here_N = gradients[gradients[:, 0] > 0].T
    differs = (here_N / logged_N - 1).abs()
    yield from (f"{value:.2f}" for value in gradients.amax(0).tolist())
    yield from (f"{100 * of(differs):.2f} %" if len(differs) else "-" for of in (torch.median, torch.max))
    yield f"{sum(logged[step]['actor/entropy'] for step in part) / len(part):.4f}"
    yield f"{sum(made[step].entropy for step in part) / len(part):.4f}"
    yield f"{max(made[step].moved for step in part):.2f}"


if __name__ == "__main__":
    main()
