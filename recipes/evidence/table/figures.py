"""The evidence's pictures, beside its document: DOCUMENT-NAME.png. One that has nothing to show is not made.

levels         accuracy and consistency of GRPO, noKL and CARE on the three levels, and of what they began as
start          what the same three make of each warm start
variants       every variant in the mean over the levels, each of its runs beside it
curves         the same three over training
reference      what the reference's likelihood is worth over training: EMA, frozen, at once
calibration    reliability curves by quarter of training
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import isnan
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb
from matplotlib.ticker import PercentFormatter

from data_prep.miniature_world import LEVELS
from recipes.evidence.results import QUARTERS
from recipes.evidence.table.committed import WARM_START, Committed, bins_of
from recipes.evidence.table.levels import HEADLINE
from recipes.evidence.table.markdown import MEASURES, name_of
from recipes.evidence.table.statistics import estimate
from verl_care.report import figure_style as style
from verl_care.report.payload import Metric
from verl_care.report.seeds import Setting

COLOURS = {WARM_START: "#b8b8b8", "grpo": style.COLOURS[2], "no_kl": style.COLOURS[1], "care": style.COLOURS[0]}
REFERENCES = {"care": "EMA", "care_frozen": "frozen", "care_at_once": "at once"}
OVER_STEPS = ("accuracy", "consistency", "right_reason", "right_contradicted")
OF_VARIANTS = ("right_letter", "consistency", "right_reason")
OF_REFERENCE = {"likelihood": "likelihood of selected answers", "at_cap": "share at the cap", "auc": "AUC"}
LEVEL_NAMES = {"L1": "L1, as in training", "L2": "L2, unseen looks", "L3": "L3, unseen looks and goals"}
FEW = 20
"""A bin of fewer responses is not drawn."""
QUARTER_NAMES = ("first", "second", "third", "last")
SHADES = (0.25, 0.5, 0.75, 1.0)
"""Of the quarters of training, the last one darkest."""
MAX_AREA = 90.0


def write(found: Committed, document: Path) -> list[Path]:
    drawings: dict[str, Callable[[Committed], Any]] = {
        "levels": levels,
        "start": start,
        "variants": lambda found: variants(found.shared),
        "curves": curves,
        "reference": lambda found: reference(found.shared),
        "calibration": calibration,
    }
    written = []
    with plt.rc_context({**style.RC, "savefig.dpi": 200}):
        for name, draw in drawings.items():
            figure = draw(found)
            if figure is not None:
                written.append(document.with_name(f"{document.stem}-{name}.png"))
                figure.savefig(written[-1])
                plt.close(figure)
    return written


def levels(found: Committed) -> Any:
    """Means as bars and numbers, each run as a ring."""
    shown = [variant for variant in HEADLINE if found.levels(variant, "sampled")]
    if shown in ([], [WARM_START]):
        return None
    figure, axes = plt.subplots(2, 1, figsize=(7.2, 4.6), sharex=True, layout="constrained")
    for axis, measure in zip(axes, ("accuracy", "consistency"), strict=True):
        for place, variant in enumerate(shown):
            values = [list(found.measured(variant, "sampled", measure, level).values()) for level in LEVELS]
            _bars(axis, values, (place - (len(shown) - 1) / 2) / (len(shown) + 1), 1 / (len(shown) + 1), variant)
        axis.set_title(MEASURES[measure])
        axis.set_ylim(0, 1.12)
        axis.set_yticks([0, 0.25, 0.5, 0.75, 1])
        axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axis.set_xticks(range(len(LEVELS)), [LEVEL_NAMES[level] for level in LEVELS])
        axis.grid(axis="x", visible=False)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=len(labels), columnspacing=2, frameon=False)
    several = max(len(found.levels(variant, "sampled")) for variant in shown) > 1
    _caption(figure, f"sampled at temperature 1, {_runs(found, shown)}{', a ring each' if several else ''}")
    return figure


def _bars(axis: Any, values: Sequence[Sequence[float]], offset: float, width: float, variant: str) -> None:
    places = [level + offset for level in range(len(values))]
    means = [fmean(of_level) for of_level in values]
    axis.bar(places, means, 0.92 * width, color=COLOURS[variant], label=name_of(variant))
    for x, mean, of_level in zip(places, means, values, strict=True):
        if len(of_level) > 1:
            rings = {"facecolor": "none", "edgecolor": style.INK, "linewidth": 0.7, "zorder": 3}
            axis.scatter([x] * len(of_level), of_level, 12, **rings)
        axis.annotate(
            f"{100 * mean:.0f}", (x, max(of_level)), (0, 4), textcoords="offset points", ha="center", fontsize=8
        )


def start(found: Committed) -> Any:
    """Seed by seed: how consistent a run ends, over how often its warm start concluded rightly."""
    before = found.measured(WARM_START, "sampled", "conclusion_right")
    after = {variant: found.measured(variant, "sampled", "consistency") for variant in HEADLINE[1:]}
    shown = [variant for variant, values in after.items() if len(before.keys() & values.keys()) > 1]
    if not shown:
        return None
    figure, axis = plt.subplots(figsize=(5.4, 2.9), layout="constrained")
    for variant in reversed(shown):  # CARE is drawn last, above the others, and named first
        seeds = sorted(before.keys() & after[variant].keys(), key=before.__getitem__)
        points = [before[seed] for seed in seeds], [after[variant][seed] for seed in seeds]
        axis.plot(*points, marker="o", markersize=5, linewidth=1.4, color=COLOURS[variant], label=name_of(variant))
    axis.set_ylim(0, 1.04)
    axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axis.set_xlabel("conclusions that are right before training")
    axis.set_ylabel("consistent after it")
    figure.legend(loc="outside upper left", ncols=len(shown), columnspacing=2, frameon=False)
    _caption(figure, f"each point a seed, mean of three levels, sampled; {_runs(found, shown)}")
    return figure


def variants(found: Committed) -> Any:
    """A row for each variant: its runs as rings, their mean and its standard error."""
    shown = [variant for variant in found.variants if found.levels(variant, "sampled")]
    measures = [m for m in OF_VARIANTS if any(found.measured(variant, "sampled", m) for variant in shown)]
    if len(shown) < 2 or not measures:
        return None
    figure, axes = plt.subplots(
        1, len(measures), figsize=(7.2, 0.7 + 0.26 * len(shown)), sharex=True, sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for axis, measure in zip(axes.flat, measures, strict=True):
        for row, variant in enumerate(shown):
            values = list(found.measured(variant, "sampled", measure).values())
            colour, value = COLOURS.get(variant, style.GREY), estimate(values)
            axis.scatter(values, [row] * len(values), 14, facecolor="none", edgecolor=colour, linewidth=0.8)
            error = 0 if isnan(value.error) else value.error
            axis.errorbar(value.mean, row, xerr=error, marker="D", markersize=4, linewidth=1.6, color=colour, zorder=3)
        axis.set_title(MEASURES[measure])
        axis.set_xlim(0, 1.02)
        axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axis.grid(axis="y", visible=False)
    axes[0, 0].set_yticks(range(len(shown)), [name_of(variant) for variant in shown])
    axes[0, 0].invert_yaxis()
    rows = "a ring each run, a diamond their mean ± standard error"
    _caption(figure, f"mean of three levels, sampled; {_runs(found, shown)}; {rows}")
    return figure


def curves(found: Committed) -> Any:
    return _over_steps(
        found,
        {variant: name_of(variant) for variant in ("care", "no_kl", "grpo")},
        {name: MEASURES[name] for name in OVER_STEPS},
        columns=2,
    )


def reference(found: Committed) -> Any:
    return _over_steps(found, REFERENCES, OF_REFERENCE)


def _over_steps(
    found: Committed, variants: dict[str, str], measures: dict[str, str], columns: int = style.COLUMNS
) -> Any:
    """Training curves: a panel for each measure, a line for each variant."""
    runs = {variant: list(found.runs.get(variant, {}).values()) for variant in variants}
    settings = [Setting(label, tuple(range(len(runs[variant])))) for variant, label in variants.items()]
    panels = {
        title: [[_curve(result["training"], name) for result in runs[variant]] for variant in variants]
        for name, title in measures.items()
    }
    known = [(s, place) for place, s in enumerate(settings) if s.runs]
    panels = {title: [of_variants[place] for _, place in known] for title, of_variants in panels.items()}
    if not any(curve for of_variants in panels.values() for found in of_variants for curve in found):
        return None
    return style.small_multiples(panels, [setting for setting, _ in known], 0, set(panels), columns, each_run=True)


def _curve(training: dict[str, list], name: str) -> Metric | None:
    if not any(value is not None for value in training.get(name, ())):
        return None
    return {"steps": training["step"], "values": training[name]}


def calibration(found: Committed) -> Any:
    """All runs' responses together; the area of a disc is the share of its quarter's responses."""
    shown = [variant for variant in REFERENCES if any(found.quarter(variant, q) for q in range(QUARTERS))]
    if not shown:
        return None
    figure, axes = plt.subplots(
        1, len(shown), figsize=(2.3 * max(2, len(shown)) + 0.4, 2.9), sharey=True, squeeze=False, layout="constrained"
    )
    labelled: dict[str, Any] = {}
    for number, (axis, variant) in enumerate(zip(axes.flat, shown, strict=True)):
        axis.plot([0, 1], [0, 1], color="#b0b0b0", linewidth=0.8, linestyle=(0, (4, 3)))
        for quarter, curve in _reliability(found, variant):
            total = sum(part.count for part in curve)
            drawn = [part for part in curve if part.count >= FEW]
            x, y = [part.predicted for part in drawn], [part.observed for part in drawn]
            colour = _shade(COLOURS["care"], SHADES[quarter])
            (line,) = axis.plot(x, y, color=colour, linewidth=1.4)
            axis.scatter(
                x, y, [6 + MAX_AREA * part.count / total for part in drawn], color=colour, linewidth=0, zorder=3
            )
            labelled[f"{QUARTER_NAMES[quarter]} quarter"] = line
        axis.set_title(f"reference: {REFERENCES[variant]}")
        axis.set_xlim(-0.03, 1.03)
        axis.set_ylim(-0.03, 1.05)
        axis.set_xlabel("likelihood of the answer")
        if not number:
            axis.set_ylabel("share that is consistent")
    figure.legend(
        labelled.values(), labelled.keys(), loc="outside upper left", ncols=QUARTERS, columnspacing=2, frameon=False
    )
    _caption(figure, f"accurate rollouts of {_runs(found, shown)}; a disc is a bin of {FEW} responses or more")
    return figure


def _reliability(found: Committed, variant: str) -> Iterator[tuple[int, list]]:
    for quarter in range(QUARTERS):
        if parts := found.quarter(variant, quarter):
            yield quarter, bins_of(parts)


def _shade(colour: str, part: float) -> tuple[float, ...]:
    """Mixed with white."""
    return tuple(1 - part * (1 - channel) for channel in to_rgb(colour))


def _runs(found: Committed, variants: Sequence[str]) -> str:
    counts = sorted({len(found.runs[variant]) for variant in variants if variant in found.runs})
    number = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"{number} run{'s' if counts[-1] > 1 else ''} of {found.steps} steps"


def _caption(figure: Any, text: str) -> None:
    figure.supxlabel(text, fontsize=7, color=style.GREY, x=0.01, ha="left")
