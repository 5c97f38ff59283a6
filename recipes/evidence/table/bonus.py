"""What the bonus told apart: groups in which it differs among selected responses; and how long their answers are."""

from __future__ import annotations

from recipes.evidence.table.committed import Committed
from recipes.evidence.table.markdown import NOTHING, grid, name_of

NONE = "No result says it."


def bonus(found: Committed) -> str:
    """A row for each variant with a bonus, of the runs whose results say it."""
    rows = []
    for variant in found.variants:
        said = [result["bonus"] for result in found.runs[variant].values() if result.get("bonus")]
        groups, apart = (sum(run[name] for run in said) for name in ("groups", "told_apart"))
        if not apart:
            continue
        answers = sum(count for run in said for count in run["answer_tokens"].values())
        longer = answers - sum(run["answer_tokens"].get("1", 0) for run in said)
        each = ", ".join(f"{100 * run['told_apart'] / run['groups']:.0f}" if run["groups"] else NOTHING for run in said)
        share = f"{100 * apart / groups:.1f}"
        rows.append([name_of(variant), str(len(said)), f"{groups:,}", share, each, f"{answers:,}", f"{longer:,}"])
    header = ["", "runs", "groups with two selected", "told apart", "each run", "selected answers"]
    return grid([*header, "of more than one token"], rows) if rows else NONE
