"""Tables and figures of the evidence, from the results of its runs alone.

    python -m recipes.evidence.table --results RESULTS [--out FOLDER]

Prints Markdown: every measure of every variant on each level, mean and standard error over seeds, and CARE minus its
rivals, paired by seed, with 95 % intervals. With `--out` it is written to FOLDER/evidence.md, beside curves.png.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import t as student

from data_prep.miniature_world import LEVELS
from recipes.evidence.plan import VARIANTS
from recipes.evidence.runs import levels_of

MEASURES = ("accuracy", "consistency", "right_reason", "right_contradicted", "format", "length")
COMPARED, RIVALS = "care", ("no_kl", "grpo", "care_frozen")
PANELS = ("accuracy", "consistency", "right_contradicted", "bonus_rate")

Results = Mapping[str, Mapping[int, Mapping[str, Any]]]  # variant -> seed -> result


class Estimate(NamedTuple):
    mean: float
    error: float
    """Standard error of the mean; NaN of one number alone."""
    count: int

    @property
    def half_width(self) -> float:
        """Of the 95 % interval, by Student's t."""
        return float(student.ppf(0.975, self.count - 1)) * self.error if self.count > 1 else math.nan


def estimate(values: Sequence[float]) -> Estimate:
    count = len(values)
    error = float(np.std(values, ddof=1)) / math.sqrt(count) if count > 1 else math.nan
    return Estimate(float(np.mean(values)), error, count)


def paired(results: Results, one: str, other: str, level: str, measure: str) -> Estimate | None:
    """Mean difference over the seeds that both have; None where they share none."""
    seeds = sorted(results.get(one, {}).keys() & results.get(other, {}).keys())
    if not seeds:
        return None
    return estimate(
        [levels_of(results[one][s])[level][measure] - levels_of(results[other][s])[level][measure] for s in seeds]
    )


def read_results(folder: Path) -> Results:
    """Raises:
    ValueError: no results, or of runs of different lengths, which cannot stand in one table.
    """
    found: dict[str, dict[int, Mapping[str, Any]]] = defaultdict(dict)
    for path in sorted(folder.glob("*.json")):
        result = json.loads(path.read_text())
        found[result["variant"]][result["seed"]] = result
    steps = {result["steps"] for seeds in found.values() for result in seeds.values()}
    if len(steps) != 1:
        raise ValueError(f"{folder} holds results of {sorted(steps) or 'no'} steps; one table needs runs of one length")
    return found


def warm_starts(results: Results) -> list[Mapping[str, Mapping[str, float]]]:
    """The validation before the first step, of one run of every seed."""
    by_seed = {seed: result for seeds in results.values() for seed, result in seeds.items()}
    return [result["validation"][0] for _, result in sorted(by_seed.items())]


def level_table(results: Results, level: str) -> list[str]:
    lines = [f"| {level} | runs | {' | '.join(name.replace('_', ' ') for name in MEASURES)} |"]
    lines.append("|" + " --- |" * (2 + len(MEASURES)))
    rows = {"warm start": [start[level] for start in warm_starts(results)]}
    rows |= {v: [levels_of(r)[level] for r in results[v].values()] for v in VARIANTS if v in results}
    for name, measured in rows.items():
        cells = [shown(estimate([m[measure] for m in measured])) for measure in MEASURES]
        lines.append(f"| {name} | {len(measured)} | {' | '.join(cells)} |")
    return lines


def shown(value: Estimate) -> str:
    return f"{value.mean:.3f}" + ("" if math.isnan(value.error) else f" ± {value.error:.3f}")


def comparison_table(results: Results) -> list[str]:
    lines = ["| CARE minus | level | runs | accuracy | consistency | right reason |", "|" + " --- |" * 6]
    for rival in RIVALS:
        for level in LEVELS:
            found = [paired(results, COMPARED, rival, level, m) for m in ("accuracy", "consistency", "right_reason")]
            known = [value for value in found if value is not None]
            if known:
                cells = [f"{value.mean:+.3f} ± {value.half_width:.3f}" for value in known]
                lines.append(f"| {rival} | {level} | {known[0].count} | {' | '.join(cells)} |")
    return lines


def markdown(results: Results) -> str:
    steps = next(result["steps"] for seeds in results.values() for result in seeds.values())
    parts = [[f"After {steps} steps, sampled at temperature 1; mean ± standard error over seeds."]]
    parts += [level_table(results, level) for level in LEVELS]
    parts += [["Paired by seed, with 95 % intervals."], comparison_table(results)]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def draw(results: Results, path: Path) -> None:
    """Means over seeds of the rollouts' measures, with a band of a standard error."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(9, 5.5), sharex=True, layout="constrained")
    for axis, name in zip(axes.flat, PANELS, strict=True):
        for number, variant in enumerate(v for v in VARIANTS if v in results):
            runs = [result["training"] for result in results[variant].values()]
            values = np.array([[np.nan if v is None else v for v in run[name]] for run in runs])
            if np.isnan(values).all():
                continue
            mean, error = values.mean(0), values.std(0, ddof=len(runs) > 1) / math.sqrt(len(runs))
            axis.plot(runs[0]["step"], mean, color=f"C{number}", label=variant)
            axis.fill_between(runs[0]["step"], mean - error, mean + error, color=f"C{number}", alpha=0.2, linewidth=0)
        axis.set_title(name.replace("_", " "), loc="left", fontsize=10)
        axis.set_ylim(0, 1)
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[-1]:
        axis.set_xlabel("step")
    axes[0, 0].legend(fontsize=8, frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    results = read_results(arguments.results)
    text = markdown(results)
    print(text)
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "evidence.md").write_text(text)
        draw(results, arguments.out / "curves.png")


if __name__ == "__main__":
    main()
