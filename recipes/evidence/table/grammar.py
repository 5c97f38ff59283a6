"""Which runs left the grammar on the way, where rewards do not hold them to it."""

from __future__ import annotations

from collections.abc import Sequence

from recipes.evidence.results import STEPS_A_POINT
from recipes.evidence.table.committed import Committed, Result
from recipes.evidence.table.markdown import NOTHING, grid, name_of

LEAST = 0.9  # in the grammar, of a point of the curve
POINTS_BEFORE = 5
NONE = f"None: every point of every run's curve has {100 * LEAST:.0f} % or more in the grammar."


def grammar(found: Committed) -> str:
    """A row for each run that has points of its training curve with less than `LEAST` in the grammar: from the first
    to the last of them."""
    rows = [row for result in found.results if (row := _row(result))]
    before = f"consistent, {POINTS_BEFORE * STEPS_A_POINT} steps before"
    header = ["run", "seed", "steps", "outside the grammar", "consistent", before]
    return grid(header, rows) if rows else NONE


def _row(result: Result) -> list[str] | None:
    curves = result["training"]
    places = [place for place, share in enumerate(curves["format"]) if share is not None and share < LEAST]
    if not places:
        return None
    first, last = places[0], places[-1] + 1
    before = curves["consistency"][max(0, first - POINTS_BEFORE) : first]
    return [
        name_of(result["variant"]), str(result["seed"]),
        f"{curves['step'][first] - STEPS_A_POINT + 1} to {curves['step'][last - 1]}",
        _range([1 - share for share in curves["format"][first:last] if share is not None]),
        _range(curves["consistency"][first:last]), _range(before),
    ]  # fmt: skip


def _range(shares: Sequence[float | None]) -> str:
    """Lowest to highest."""
    ends = sorted({f"{100 * share:.0f}" for share in shares if share is not None}, key=int)
    return " to ".join(ends if len(ends) < 2 else (ends[0], ends[-1])) or NOTHING
