"""Seed by seed: what a warm start knew, and where each variant took it."""

from __future__ import annotations

from collections.abc import Mapping

from recipes.evidence.table.committed import WARM_START, Committed
from recipes.evidence.table.markdown import NOTHING, grid, name_of


def seeds(found: Committed) -> str:
    """Means over the three levels, sampled: conclusions that are right before training, consistency after it."""
    before = found.measured(WARM_START, "sampled", "conclusion_right")
    after = {variant: found.measured(variant, "sampled", "consistency") for variant in found.variants}
    every = sorted({seed for values in after.values() for seed in values})

    def row(name: str, values: Mapping[int, float]) -> list[str]:
        return [name, *(f"{100 * values[seed]:.1f}" if seed in values else NOTHING for seed in every)]

    first = row("conclusion right, warm start", before)
    rows = [row(f"consistency, {name_of(variant)}", values) for variant, values in after.items()]
    return grid(["seed", *map(str, every)], [first, *rows])
