"""The paper's claim in miniature: does CARE make reasoning and answer agree, and is it more accurate for it?

    python -m recipes.evidence [--fast] --out runs/evidence

Ten variants, five seeds, 400 steps each, through verl; `--fast`: three variants, three seeds, fewer steps. Can be
stopped at any time: what is done is not done again. `python -m recipes.evidence.table` makes tables and figures.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from recipes.evidence import plan
from recipes.evidence.plan import Plan, Run
from recipes.evidence.runs import Evidence
from recipes.quickstart.stages import StageFailed

COLUMNS = (TextColumn("{task.description:<16}"), BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f} steps"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/evidence"), help="data, models and trainings")
    parser.add_argument("--results", type=Path, help="folder of the results (default: OUT/results)")
    parser.add_argument(
        "--fast", action="store_true", help="grpo, no_kl and care; 3 seeds; 200 steps; results in OUT/results_fast"
    )
    parser.add_argument("--variants", nargs="+", choices=plan.VARIANTS, help="only these")
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side, at most the number of cores")
    arguments = parser.parse_args()
    wanted = _plan(arguments)
    out, console = arguments.out.absolute(), Console(highlight=False)
    results = (arguments.results or out / ("results_fast" if arguments.fast else "results")).absolute()
    signal.signal(signal.SIGTERM, _end)

    with Progress(*COLUMNS, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as bar:
        shown = {run: bar.add_task(run.name, total=wanted.steps, visible=False) for run in wanted}
        overall = bar.add_task("all", total=wanted.steps * len(shown))

        def tell(run: Run, step: int) -> None:
            done = step == wanted.steps
            bar.update(shown[run], completed=step, visible=not done)
            bar.update(overall, completed=sum(bar.tasks[task].completed for task in shown.values()))

        jobs = min(arguments.jobs, os.cpu_count() or 1)
        try:
            Evidence(out, results, wanted, tell).make(jobs, console)
        except StageFailed as failure:
            console.print(f"not finished:\n{failure}", style="bold red", markup=False, soft_wrap=True)
            return 1
    console.print(f"results in {results}; python -m recipes.evidence.table --results '{results}' shows them")
    return 0


def _plan(arguments: argparse.Namespace) -> Plan:
    chosen = plan.QUICK if arguments.fast else plan.FULL
    given = {"variants": arguments.variants, "seeds": arguments.seeds}
    changes: dict[str, Any] = {name: tuple(value) for name, value in given.items() if value}
    return dataclasses.replace(chosen, **changes, **({"steps": arguments.steps} if arguments.steps else {}))


def _end(*_: object) -> NoReturn:
    """As Ctrl-C does it, so that trainings are ended and not left behind."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
