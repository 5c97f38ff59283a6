"""How pictures for papers look: small panels, thin grids, names in the colours of their lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import Any

from verl_care.report.payload import Metric
from verl_care.report.seeds import Band, Setting, band

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito: safe for the colour-blind
INK, GREY, GRID = "#222222", "#6b6b6b", "#e6e6e6"
COLUMNS = 3  # of small multiples
THIN = 0.35  # opacity of a line behind the one that counts
LEGEND: dict[str, Any] = {
    "frameon": False, "labelcolor": "markeredgecolor", "handlelength": 1.2, "handletextpad": 0.5, "borderaxespad": 0.2,
}  # fmt: skip
RC: dict[Any, Any] = {
    "font.size": 8, "axes.titlesize": 8.5, "axes.titleweight": "bold", "axes.titlelocation": "left",
    "axes.titlepad": 7, "axes.labelsize": 8, "axes.labelcolor": GREY, "text.color": INK,
    "axes.edgecolor": "#b0b0b0", "axes.linewidth": 0.6, "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "axes.axisbelow": True, "grid.color": GRID, "grid.linewidth": 0.6,
    "xtick.color": GREY, "ytick.color": GREY, "xtick.major.size": 0, "ytick.major.size": 0,
    "legend.fontsize": 8, "text.parse_math": False, "pdf.fonttype": 42, "figure.dpi": 100, "savefig.dpi": 300,
}  # fmt: skip


def small_multiples(
    panels: dict[str, list[list[Metric | None]]],
    settings: Sequence[Setting],
    smoothing: int,
    shares: set[str],
    columns: int = COLUMNS,
    each_run: bool = False,
) -> Any:
    """A panel for each title, and in it a line for each setting.

    Args:
        panels: title -> for each setting, the curve of each run; None where a run has none.
        smoothing: a line is a running mean over this part of its points; 0 for none.
        shares: titles of panels whose values lie in [0, 1].
        columns: panels side by side, at most.
        each_run: a thin line for each run instead of an interval, which says more of few or unlike runs.
    """
    from matplotlib import pyplot as plt
    from matplotlib.ticker import MaxNLocator

    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(2.45 * columns + 0.3, 1.95 * rows + 0.35), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    smooth = 1
    seeds = sorted({len(setting.runs) for setting in settings})
    for place, (axis, (title, found)) in enumerate(zip(axes.flat, panels.items(), strict=False)):
        axis.set_title(title)
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
        axis.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        for setting, of_runs, colour in zip(settings, found, colours(), strict=False):
            known = [curve for curve in of_runs if curve is not None]
            if not known:
                continue
            window = window_of(known, smoothing)
            drawn = band(known, window)
            smooth = max(smooth, window)
            if (each_run and len(known) > 1) or (window > 1 and len(known) == 1):
                for raw in (band([curve]) for curve in known):
                    axis.plot(raw.steps, raw.mean, color=colour, alpha=THIN, linewidth=0.8)
            draw(axis, drawn, colour, setting.label, interval=not each_run)
        if title in shares:
            low, high = axis.get_ylim()
            axis.set_ylim(max(0, low), min(1.02, high))
        if place >= len(panels) - columns:
            axis.set_xlabel("step")
    if len(settings) > 1:
        lines = {line.get_label(): line for axis in axes.flat[::-1] for line in axis.get_lines()}
        named = {setting.label: lines[setting.label] for setting in settings if setting.label in lines}
        figure.legend(
            named.values(), named.keys(), loc="outside upper left", ncols=len(named), columnspacing=2, **LEGEND
        )  # fmt: skip
    number = seeds[0] if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    of_seeds = f"{number} seeds, thin, and their mean" if each_run else f"mean and 95 % interval over {number} seeds"
    parts = [
        of_seeds if seeds[-1] > 1 else "",
        f"running mean over {smooth} points" if smooth > 1 else "",
    ]
    if caption := "; ".join(part for part in parts if part):
        figure.supxlabel(caption, fontsize=7, color=GREY, x=0.01, ha="left")
    return figure


def window_of(curves: Sequence[Metric], smoothing: int) -> int:
    """Points of a running mean: this part of the longest curve's; 0 is none."""
    return max(1, max(len(curve["steps"]) for curve in curves) // smoothing) if smoothing else 1


def draw(axis: Any, drawn: Band, colour: str, label: str, interval: bool = True) -> None:
    """A line and its interval; few points are marked."""
    few = len(drawn.steps) <= 12
    axis.plot(
        drawn.steps, drawn.mean, color=colour, linewidth=1.6, marker="o" if few else None, markersize=3.5, label=label
    )
    if interval:
        axis.fill_between(drawn.steps, drawn.low, drawn.high, color=colour, alpha=0.18, linewidth=0)


def colours() -> Iterator[str]:
    return cycle(COLOURS)
