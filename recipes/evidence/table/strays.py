"""Whether it pays to leave the language of the world: what a reference makes of a letter behind what it never saw."""

from __future__ import annotations

from recipes.evidence.results import QUARTERS
from recipes.evidence.table.committed import Committed
from recipes.evidence.table.markdown import NOTHING, grid, name_of, signed
from recipes.evidence.table.statistics import estimate


def strays(found: Committed) -> str:
    """A row for each quarter: how many right letters stray, and their likelihood beside the others' of their group."""
    rows = []
    for variant in found.variants:
        for quarter in range(QUARTERS):
            if parts := found.quarter(variant, quarter):
                of_runs = [part["strays"] for part in parts]
                right, stray = (sum(run[name] for run in of_runs) for name in ("right", "stray"))
                each = ", ".join(f"{100 * run['stray'] / run['right']:.0f}" for run in of_runs if run["right"])
                gains = [run["gain"] for run in of_runs if run["gain"] is not None]
                gain = signed(estimate(gains).mean) if gains else NOTHING
                rows.append(
                    [
                        name_of(variant), f"{parts[0]['steps'][0]} to {parts[0]['steps'][1]}", str(len(parts)),
                        f"{right:,}", f"{100 * stray / right:.1f}" if right else NOTHING, each,
                        f"{sum(run['groups'] for run in of_runs):,}", gain,
                    ]
                )  # fmt: skip
    header = ["", "steps", "runs", "right letters", "behind no step", "each run", "groups with both"]
    return grid([*header, "their likelihood minus options'"], rows)
