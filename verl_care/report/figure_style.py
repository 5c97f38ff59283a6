"""How pictures for papers look: small panels, thin grids, names in the colours of their lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import Any

from verl_care.report.payload import Metric
from verl_care.report.seeds import Band, Setting, band

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito: safe for the colour-blind
INK, GREY, GRID = "#222222", "#6b6b6b", "#e6e6e6"
RC: dict[Any, Any] = {
    "font.size": 8, "axes.titlesize": 8.5, "axes.titleweight": "bold", "axes.titlelocation": "left",
    "axes.titlepad": 7, "axes.labelsize": 8, "axes.labelcolor": GREY, "text.color": INK,
    "axes.edgecolor": "#b0b0b0", "axes.linewidth": 0.6, "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "axes.axisbelow": True, "grid.color": GRID, "grid.linewidth": 0.6,
    "xtick.color": GREY, "ytick.color": GREY, "xtick.major.size": 0, "ytick.major.size": 0,
    "pdf.fonttype": 42, "figure.dpi": 100, "savefig.dpi": 300,
}  # fmt: skip


def small_multiples(
    panels: dict[str, list[list[Metric | None]]], settings: Sequence[Setting], window: int, shares: set[str], note: str
) -> Any:
    from matplotlib import pyplot as plt
    from matplotlib.ticker import MaxNLocator

    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(2.45 * columns + 0.3, 1.95 * rows + 0.35), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    seeds = max(len(setting.runs) for setting in settings)
    for place, (axis, (title, found)) in enumerate(zip(axes.flat, panels.items(), strict=False)):
        axis.set_title(title)
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axis.yaxis.set_major_locator(MaxNLocator(5))
        ends = []
        for setting, of_runs, colour in zip(settings, found, colours(), strict=False):
            known = [curve for curve in of_runs if curve is not None]
            if not known:
                continue
            drawn = band(known, window)
            if len(known) == 1 and window > 1:
                raw = band(known)
                axis.plot(raw.steps, raw.mean, color=colour, alpha=0.25, linewidth=0.8)
            draw(axis, drawn, colour)
            ends.append((drawn.mean[-1], setting.label, colour))
        if title in shares:
            low, high = axis.get_ylim()
            axis.set_ylim(max(0, low), min(1.02, high))
        if place >= len(panels) - columns:
            axis.set_xlabel("step")
        if len(settings) > 1 and place == 0:
            name_lines(axis, [(name, colour) for _, name, colour in sorted(ends)])
    parts = [f"mean and 95 % interval over {seeds} seeds" if seeds > 1 else "", note]
    if caption := "; ".join(part for part in parts if part):
        figure.supxlabel(caption, fontsize=7, color=GREY, x=0.01, ha="left")
    return figure


def draw(axis: Any, drawn: Band, colour: str) -> None:
    few = len(drawn.steps) <= 12
    axis.plot(drawn.steps, drawn.mean, color=colour, linewidth=1.6, marker="o" if few else None, markersize=3.5)
    axis.fill_between(drawn.steps, drawn.low, drawn.high, color=colour, alpha=0.18, linewidth=0)


def name_lines(axis: Any, names: Sequence[tuple[str, str]]) -> None:
    """(name, colour) of each line, the lowest first, in the lower right corner of the axes."""
    for line, (name, colour) in enumerate(names):
        axis.text(
            0.98, 0.04 + 0.1 * line, name, color=colour, fontsize=7.5, fontweight="bold", ha="right", va="bottom",
            transform=axis.transAxes,
        )  # fmt: skip


def colours() -> Iterator[str]:
    return cycle(COLOURS)
