"""How far the reference's likelihood predicts true consistency, over training."""

from __future__ import annotations

from recipes.evidence.results import QUARTERS
from recipes.evidence.table.committed import Committed, bins_of, calibration_error
from recipes.evidence.table.markdown import grid, mean, name_of
from recipes.evidence.table.statistics import estimate


def likelihood(found: Committed) -> str:
    """A row for each quarter of every variant whose answers a reference scored. Only accurate responses count.

    Shares and the mean likelihood are of all runs' responses together; AUC and the calibration error, which is the
    mean distance of likelihood and share of consistent responses in ten bins, are means over runs. Within groups: of
    the pairs of responses to one question, which are what the bonus compares.
    """
    rows = []
    for variant in found.variants:
        for quarter in range(QUARTERS):
            if parts := found.quarter(variant, quarter):
                scored = sum(part.count for part in bins_of(parts))
                capped = sum(part["capped"] for part in parts)
                predicted = sum(part.count * part.predicted for part in bins_of(parts)) / scored
                observed = sum(part.count * part.observed for part in bins_of(parts)) / scored
                aucs = [[p[name] for p in parts if p[name] is not None] for name in ("auc", "auc_within")]
                rows.append(
                    [
                        name_of(variant), f"{parts[0]['steps'][0]} to {parts[0]['steps'][1]}", str(len(parts)),
                        f"{scored:,}", *(f"{100 * share:.1f}" for share in (observed, predicted, capped / scored)),
                        mean("calibration", estimate([calibration_error(part) for part in parts])),
                        *(mean("auc", estimate(values), len(parts)) for values in aucs),
                        f"{sum(part['pairs_within'] for part in parts):,}",
                    ]
                )  # fmt: skip
    header = ["", "steps", "runs", "scored", "consistent", "mean likelihood", "at the cap", "calibration error"]
    header += ["AUC", "AUC within groups", "pairs"]
    return grid(header, rows)
