"""Whether a trained model's letter hangs on its conclusion: that is replaced, and the right letter is asked for."""

from __future__ import annotations

from recipes.evidence.table.committed import Committed
from recipes.evidence.table.markdown import grid, mean, name_of
from recipes.evidence.table.statistics import estimate
from recipes.quickstart.probe import CONCLUSIONS


def link(found: Committed) -> str:
    """Likelihood of the right letter behind each kind of conclusion, after the last step."""
    rows = []
    for variant in found.variants:
        probes = [result["probe"] for result in found.runs[variant].values() if result.get("probe")]
        if probes:
            cells = [mean("probe", estimate([probe[kind] for probe in probes])) for kind in CONCLUSIONS]
            rows.append([name_of(variant), str(len(probes)), *cells])
    return grid(["the right letter, behind", "runs", *CONCLUSIONS], rows)
