"""Seed by seed: what a warm start knew, and where each variant took it."""

from __future__ import annotations

from collections.abc import Mapping

from recipes.evidence.table.committed import WARM_START, Committed
from recipes.evidence.table.markdown import NOTHING, grid, name_of

MENDED = 2 / 3
"""Of consistency: above it a run's reasoning is called mended. Chosen with the first runs' numbers at hand."""


def seeds(found: Committed) -> str:
    """Means over the three levels, sampled: conclusions that are right before training, consistency after it, and right
    letters where the lamp is wrong, which reasoning alone tells."""
    before = found.measured(WARM_START, "sampled", "conclusion_right")
    after = {variant: found.measured(variant, "sampled", "consistency") for variant in found.variants}
    every = sorted({seed for values in after.values() for seed in values})

    def row(name: str, values: Mapping[int, float]) -> list[str]:
        return [name, *(f"{100 * values[seed]:.1f}" if seed in values else NOTHING for seed in every)]

    first = [*row("conclusion right, warm start", before), NOTHING]
    rows = [
        [
            *row(f"consistency, {name_of(variant)}", values),
            f"{sum(value > MENDED for value in values.values())} of {len(values)}",
        ]
        for variant, values in after.items()
    ]
    reasoned = {variant: found.measured(variant, "sampled", "lamp_wrong") for variant in found.variants}
    last = [
        [*row(f"right where the lamp is wrong, {name_of(variant)}", values), NOTHING]
        for variant, values in reasoned.items()
        if values
    ]
    return grid(["seed", *map(str, every), f"above {100 * MENDED:.0f}"], [first, *rows, *last])
