"""GRPO-CARE from nothing to a trained model on this machine's CPU: `make quickstart`.

Data, a warm-started model of about a million parameters, training through verl, its evaluation before and
after, and the checkpoint as a Hugging Face folder. What a former call finished is used again.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from rich.console import Console

from recipes.quickstart import report, stages


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/quickstart"), help="where everything goes")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides of care_quickstart, e.g. care.bonus=none")
    arguments = parser.parse_args()
    out, console, began = arguments.out.absolute(), Console(highlight=False), time.monotonic()
    out.mkdir(parents=True, exist_ok=True)

    try:
        stages.write_data(out, console)
        stages.warm_start(out, console)
        stages.train(out, console, arguments.overrides)
        stages.merge(out, console)
    except stages.StageFailed as failure:
        console.print(str(failure), style="bold red", markup=False, soft_wrap=True)
        return 1

    report.show(out, console)
    console.print(f"\n{time.monotonic() - began:.0f} s in all. Everything lies in {out}", soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
