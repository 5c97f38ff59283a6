"""Results of runs that never were, for the tests of what is made of results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recipes.evidence import results
from recipes.evidence.plan import VARIANTS
from recipes.evidence.table import committed

LEVELS = ("L1", "L2", "L3")
NOBODY = {"count": [0] * 10, "likelihood": [0.0] * 10, "consistent": [0] * 10, "capped": 0, "auc": None}
NOBODY |= {"auc_within": None, "pairs_within": 0, "strays": {"right": 0, "stray": 0, "groups": 0, "gain": None}}


def measures(accuracy: float, consistency: float) -> dict[str, float]:
    both = accuracy * consistency
    return {
        "accuracy": accuracy,
        "consistency": consistency,
        "right_reason": both,
        "right_contradicted": accuracy - both,
        "length": 20.0,
    }


def result(variant: str, seed: int, accuracy: float, consistency: float, **more: Any) -> dict[str, Any]:
    """Greedy answers are 10 points more accurate; the levels are alike."""
    steps = more.get("steps", 40)
    before, after, greedy = (
        dict.fromkeys(LEVELS, measures(*m))
        for m in ((0.4, 0.5), (accuracy, consistency), (accuracy + 0.1, consistency))
    )
    curve = {name: [0.2, 0.4] for name in (*results.MEASURED, *results.LOGGED)}
    return {
        "schema": results.SCHEMA,
        "lessons": 2,
        "variant": variant,
        "seed": seed,
        "steps": steps,
        "overrides": [*VARIANTS.get(variant, ()), f"data.seed={seed}", "optim.lr=1e-4"],
        "seconds": 1800,
        "versions": {"verl": "0.9.1"},
        "hardware": {"cpus": 2, "machine": "x86_64"},
        "validation": [{"step": 0} | before, {"step": steps} | after],
        "greedy": greedy,
        "training": {"step": [20, 40]} | curve,
        "calibration": [NOBODY | {"steps": [1 + 10 * quarter, 10 + 10 * quarter]} for quarter in range(4)],
    } | more


def quarter(**more: Any) -> dict[str, Any]:
    return NOBODY | {"steps": [1, 10]} | more


def write(folder: Path, found: Sequence[dict[str, Any]]) -> Path:
    folder.mkdir(exist_ok=True)
    for entry in found:
        (folder / f"{entry['variant']}_{entry['seed']}.json").write_text(json.dumps(entry))
    return folder


def read(folder: Path, *found: dict[str, Any]) -> committed.Committed:
    read = committed.read(write(folder, found))
    assert read is not None
    return read


def two_pairs(folder: Path) -> Path:
    """Two pairs of CARE and noKL; a third seed of noKL has no partner."""
    found = [result("care", 0, 0.8, 0.9), result("care", 1, 0.7, 0.7)]
    found += [result("no_kl", 0, 0.7, 0.4), result("no_kl", 1, 0.8, 0.4), result("no_kl", 2, 0.1, 0.1)]
    return write(folder, found)
