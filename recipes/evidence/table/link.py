"""Whether a trained model's letter hangs on its conclusion: the conclusion is replaced, and the letter is asked for."""

from __future__ import annotations

from recipes.evidence.table.committed import Committed
from recipes.evidence.table.markdown import grid, mean, name_of
from recipes.evidence.table.statistics import estimate
from recipes.quickstart.probe import CONCLUSIONS


def link(found: Committed) -> str:
    """Likelihood of a random letter behind each kind of conclusion, after the last step; every run by itself too."""
    rows = []
    for variant in found.variants:
        probes = [result["probe"] for result in found.runs[variant].values() if result.get("probe")]
        if probes:
            cells = [mean("probe", estimate([probe[kind] for probe in probes])) for kind in CONCLUSIONS]
            own = ", ".join(f"{100 * probe[next(iter(CONCLUSIONS))]:.0f}" for probe in probes)
            rows.append([name_of(variant), str(len(probes)), *cells, own])
    header = ["a random letter, behind", "runs", *CONCLUSIONS, f"{next(iter(CONCLUSIONS))}, each run"]
    return grid(header, rows)
