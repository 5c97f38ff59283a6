"""What the quick start ends with: accuracy and consistency before and after, curves, and the page of the training."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from recipes.quickstart.consistency_rule import supports
from verl_care.report import collect, page

LEVELS = ("L1", "L2", "L3")
_OPTION = re.compile(r"^[A-Z]\. (.+)$", re.MULTILINE)


def show(out: Path, console: Console) -> None:
    """Print the table, write `curves.png`, `summary.json` and the page, say where everything lies."""
    training = out / "training"
    steps = sorted(int(path.stem) for path in (training / "validation").glob("*.jsonl"))
    before, after = (evaluate(training / f"validation/{step}.jsonl") for step in (steps[0], steps[-1]))
    logged = read_metrics(training)
    rise = training_rise(logged)

    table = Table(title=f"before and after {steps[-1]} steps, sampled at temperature 1", title_justify="left")
    table.add_column("level")
    for name in ("accuracy", "consistency"):
        table.add_column(f"{name} before", justify="right")
        table.add_column("after", justify="right")
    for level in LEVELS:
        cells = [f"{side[level][name]:.3f}" for name in ("accuracy", "consistency") for side in (before, after)]
        table.add_row(level, *cells)
    console.print(table)
    console.print(
        f"training accuracy: first ten steps {rise[0]:.3f}, last ten {rise[1]:.3f} ({rise[1] - rise[0]:+.3f})"
    )

    summary = {"steps": steps[-1], "before": before, "after": after, "training_accuracy": rise}
    (out / "summary.json").write_text(json.dumps(summary, indent=2))
    draw_curves(logged, rollout_consistency(training), out / "curves.png")
    page.write(collect.collect([training]), training / "report.html")
    for name, path in (
        ("page", training / "report.html"),
        ("curves", out / "curves.png"),
        ("model", out / "merged"),
        ("metrics", training / "metrics.jsonl"),
        ("responses", training / "rollouts"),
    ):
        console.print(f"{name:<10} {path}", soft_wrap=True)


def evaluate(dump: Path) -> dict[str, dict[str, float]]:
    """Accuracy and consistency of each level in one of verl's validation dumps; all rows count in both."""
    rows = read_jsonl(dump)
    return {level: _means([row for row in rows if row["data_source"].endswith(level)]) for level in LEVELS}


def _means(rows: list[dict[str, Any]]) -> dict[str, float]:
    return {
        "accuracy": float(np.mean([row["accuracy"] for row in rows])),
        "consistency": float(np.mean([is_consistent(row) for row in rows])),
        "questions": len(rows),
    }


def is_consistent(row: dict[str, Any]) -> bool:
    """True if the reasoning's conclusion is the option of the answered letter; outside the grammar it is not."""
    return supports(row["output"], options_of(row)) is True


def options_of(row: dict[str, Any]) -> list[str]:
    """The options of a dumped row's prompt."""
    return _OPTION.findall(row["input"])


def rollout_consistency(training: Path) -> dict[int, float]:
    """Step -> share of that step's training responses that are consistent."""
    dumps = sorted((training / "rollouts").glob("*.jsonl"), key=lambda path: int(path.stem))
    return {int(path.stem): float(np.mean([is_consistent(row) for row in read_jsonl(path)])) for path in dumps}


def read_metrics(training: Path) -> dict[int, dict[str, float]]:
    """Step -> metrics, over all files of a run that was resumed; a later start's numbers count.

    A step may have two lines: a start that resumes behind it validates there before it trains.
    """
    files = sorted(training.glob("metrics*.jsonl"), key=lambda path: path.stat().st_mtime)
    logged: dict[int, dict[str, float]] = {}
    for path in files:
        for line in read_jsonl(path):
            if line["step"] > 0:
                logged.setdefault(line["step"], {}).update(line["data"])
    return logged


def training_rise(logged: dict[int, dict[str, float]]) -> tuple[float, float]:
    """Mean training accuracy of the first and of the last ten steps."""
    accuracy = [logged[step]["care/accuracy"] for step in sorted(logged)]
    return float(np.mean(accuracy[:10])), float(np.mean(accuracy[-10:]))


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Lines of a JSONL file; a last line that a kill cut off is left out."""
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def draw_curves(logged: dict[int, dict[str, float]], consistency: dict[int, float], path: Path) -> None:
    """Four panels over the steps, each with a running mean over ten."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    panels = {
        "accuracy": {step: data["care/accuracy"] for step, data in logged.items()},
        "consistency (by rule)": consistency,
        "bonus rate of selected": {s: d["care/bonus_rate"] for s, d in logged.items() if "care/bonus_rate" in d},
        "reference likelihood of selected": {
            s: d["care/likelihood_mean"] for s, d in logged.items() if "care/likelihood_mean" in d
        },
    }
    figure, axes = plt.subplots(2, 2, figsize=(9, 5.5), sharex=True, layout="constrained")
    for axis, (title, values) in zip(axes.flat, panels.items(), strict=True):
        steps = sorted(values)
        y = np.array([values[step] for step in steps])
        axis.plot(steps, y, color="tab:blue", alpha=0.25, linewidth=1)
        if len(y) >= 10:
            axis.plot(steps[9:], np.convolve(y, np.ones(10) / 10, mode="valid"), color="tab:blue", linewidth=2)
        axis.set_title(title, loc="left", fontsize=10)
        axis.set_ylim(0, 1)
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[-1]:
        axis.set_xlabel("step")
    figure.savefig(path, dpi=150)
    plt.close(figure)
