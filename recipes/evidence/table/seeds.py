"""Seed by seed: what a warm start knew, and where each method took it."""

from __future__ import annotations

from recipes.evidence.table.committed import WARM_START, Committed
from recipes.evidence.table.levels import HEADLINE
from recipes.evidence.table.markdown import NOTHING, grid, name_of

SHOWN = (*HEADLINE, "care_frozen")  # what everything is about, and what the EMA is compared with


def seeds(found: Committed) -> str:
    """Means over the three levels, sampled: conclusions that are right before training, consistency after it."""
    before = found.measured(WARM_START, "sampled", "conclusion_right")
    variants = [variant for variant in SHOWN if variant in found.variants]
    after = {variant: found.measured(variant, "sampled", "consistency") for variant in variants}
    every = sorted({seed for values in after.values() for seed in values})
    rows = [[str(seed), _share(before.get(seed)), *(_share(after[v].get(seed)) for v in variants)] for seed in every]
    return grid(["seed", "conclusion right, warm start", *(f"consistency, {name_of(v)}" for v in variants)], rows)


def _share(value: float | None) -> str:
    return NOTHING if value is None else f"{100 * value:.1f}"
