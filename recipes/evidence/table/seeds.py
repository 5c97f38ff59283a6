"""Seed by seed: what a warm start knew, and where each variant took it."""

from __future__ import annotations

from collections.abc import Mapping

from recipes.evidence.plan import FAST
from recipes.evidence.table.committed import WARM_START, Committed
from recipes.evidence.table.markdown import NOTHING, grid, name_of

MENDED = 2 / 3
"""Of consistency: above it a run's reasoning is called mended. Chosen with the first runs' numbers at hand."""

ASKED = {"conclusion_right": "conclusion right", "lamp_wrong": "right letter where the lamp is wrong"}


def seeds(found: Committed) -> str:
    """Means over the three levels, sampled: conclusions that are right before training, consistency after it; and for
    the three that everything is about, right conclusions after it and right letters where the lamp is wrong."""
    before = found.measured(WARM_START, "sampled", "conclusion_right")
    after = {variant: found.measured(variant, "sampled", "consistency") for variant in found.variants}
    every = sorted({seed for values in after.values() for seed in values})

    def row(name: str, values: Mapping[int, float], count: str = NOTHING) -> list[str]:
        return [name, *(f"{100 * values[seed]:.1f}" if seed in values else NOTHING for seed in every), count]

    rows = [row("conclusion right, warm start", before)]
    for variant, values in after.items():
        count = f"{sum(value > MENDED for value in values.values())} of {len(values)}"
        rows.append(row(f"consistency, {name_of(variant)}", values, count))
    for measure, words in ASKED.items():
        for variant in (variant for variant in found.variants if variant in FAST):
            if values := found.measured(variant, "sampled", measure):
                rows.append(row(f"{words}, {name_of(variant)}", values))
    return grid(["seed", *map(str, every), f"above {100 * MENDED:.0f}"], rows)
