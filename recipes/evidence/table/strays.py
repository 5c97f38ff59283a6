"""Whether it pays to leave the language of the world: what a reference makes of a letter behind what it never saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recipes.evidence.results import QUARTERS
from recipes.evidence.table.committed import Committed
from recipes.evidence.table.markdown import NOTHING, grid, name_of, signed

FEW = 5


def strays(found: Committed) -> str:
    """A row for each quarter: how many right letters stray, and their likelihood beside the others' of their group."""
    rows = []
    for variant in found.variants:
        for quarter in range(QUARTERS):
            if parts := found.quarter(variant, quarter):
                of_runs = [part["strays"] for part in parts]
                right, stray = (sum(run[name] for run in of_runs) for name in ("right", "stray"))
                each = ", ".join(f"{100 * run['stray'] / run['right']:.0f}" for run in of_runs if run["right"])
                groups = sum(run["groups"] for run in of_runs)
                gain = sum(run["gain"] * run["groups"] for run in of_runs if run["groups"])
                rows.append(
                    [
                        name_of(variant), f"{parts[0]['steps'][0]} to {parts[0]['steps'][1]}", str(len(parts)),
                        f"{right:,}", f"{100 * stray / right:.1f}" if right else NOTHING, each,
                        f"{groups:,}", signed(gain / groups) if groups else NOTHING, _each(of_runs),
                    ]
                )  # fmt: skip
    header = ["", "steps", "runs", "right letters", "behind no step", "each run", "groups with both"]
    return grid([*header, "their likelihood minus options'", f"runs with {FEW} such groups or more"], rows)


def _each(of_runs: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(signed(run["gain"]) for run in of_runs if run["groups"] >= FEW) or NOTHING
