"""What a reference makes of letters behind no option: behind what is no step, and behind steps that are no option."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recipes.evidence.results import QUARTERS
from recipes.evidence.table.committed import Committed
from recipes.evidence.table.markdown import NOTHING, grid, name_of, signed

FEW = 5
KINDS = {"no step": ("stray", ""), "a step that is no option": ("off_list", "off_list_")}


def strays(found: Committed) -> str:
    """A row for each quarter: how many right letters are of either kind, and their likelihood beside the options'."""
    rows = []
    for variant in found.variants:
        for quarter in range(QUARTERS):
            if parts := found.quarter(variant, quarter):
                of_runs = [part["strays"] for part in parts]
                rows.append(
                    [
                        name_of(variant), f"{parts[0]['steps'][0]} to {parts[0]['steps'][1]}", str(len(parts)),
                        f"{sum(run['right'] for run in of_runs):,}",
                        *(cell for kind in KINDS.values() for cell in _cells(of_runs, *kind)),
                    ]
                )  # fmt: skip
    header = ["", "steps", "runs", "right letters"]
    for kind in KINDS:
        header += [f"behind {kind}", "each run", "groups with both", "their likelihood minus options'"]
        header += [f"runs with {FEW} such groups or more"]
    return grid(header, rows)


def _cells(of_runs: Sequence[Mapping[str, Any]], kind: str, prefix: str) -> list[str]:
    """Of one kind; results of before the second was counted do not have it."""
    counted = [run for run in of_runs if kind in run]
    right, these = (sum(run[name] for run in counted) for name in ("right", kind)) if counted else (0, 0)
    groups = sum(run[f"{prefix}groups"] for run in counted)
    gain = sum(run[f"{prefix}gain"] * run[f"{prefix}groups"] for run in counted if run[f"{prefix}groups"])
    of_each = [signed(run[f"{prefix}gain"]) for run in counted if run[f"{prefix}groups"] >= FEW]
    return [
        f"{100 * these / right:.1f}" if right else NOTHING,
        ", ".join(f"{100 * run[kind] / run['right']:.0f}" for run in counted if run["right"]) or NOTHING,
        f"{groups:,}" if counted else NOTHING,
        signed(gain / groups) if groups else NOTHING,
        ", ".join(of_each) or NOTHING,
    ]
