"""The paper's claim in miniature: does CARE make reasoning and answer agree, and is it more accurate for it?

    python -m recipes.evidence [--fast] --out runs/evidence

Ten variants, five seeds, 400 steps each, through verl; `--fast`: three variants, three seeds, 200 steps. Can be stopped
at any time: what is done is not done again. `python -m recipes.evidence.table` makes tables and figures of the results.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from recipes.evidence import plan, runs
from recipes.quickstart.stages import StageFailed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/evidence"), help="data, models and trainings")
    parser.add_argument("--results", type=Path, help="folder of the results (default: OUT/results)")
    parser.add_argument("--fast", action="store_true", help="grpo, no_kl and care; 3 seeds; 200 steps")
    parser.add_argument("--variants", nargs="+", choices=plan.VARIANTS, help="only these")
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("--steps", type=int)
    arguments = parser.parse_args()
    chosen = plan.QUICK if arguments.fast else plan.FULL
    given = {"variants": arguments.variants, "seeds": arguments.seeds}
    changes: dict = {name: tuple(value) for name, value in given.items() if value}
    if arguments.steps:
        changes["steps"] = arguments.steps
    chosen = dataclasses.replace(chosen, **changes)
    out, console = arguments.out.absolute(), Console(highlight=False)
    results = (arguments.results or out / "results").absolute()
    out.mkdir(parents=True, exist_ok=True)

    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("runs", total=len(list(chosen)))
        try:
            runs.make(chosen, out, results, console, lambda run: bar.update(task, advance=1, description=run.name))
        except StageFailed as failure:
            console.print(f"[bold red]{failure}[/]", soft_wrap=True)
            return 1
    console.print(f"results in {results}; python -m recipes.evidence.table --results '{results}' shows them")
    return 0


if __name__ == "__main__":
    sys.exit(main())
