"""How numbers and variants are written. Shares are in percent, differences of shares in points."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from recipes.evidence.table.statistics import Estimate

NAMES = {
    "warm_start": "warm start",
    "grpo": "GRPO with KL",
    "no_kl": "noKL",
    "care": "CARE",
    "kl_ema": "KL-EMA",
    "dense_cons": "DenseCons",
    "ref_gen": "RefGen",
    "ref_gen_greedy": "RefGen, greedy",
    "care_frozen": "CARE, reference frozen",
    "care_at_once": "CARE, reference at once",
    "care_margin": "CARE, margin 0.01",
    "care_arithmetic": "CARE, arithmetic mean",
}
MEASURES = {
    "accuracy": "accuracy",
    "right_letter": "right letter",
    "format": "in the grammar",
    "consistency": "consistency",
    "consistency_loose": "consistency, loosely",
    "right_reason": "right for the right reason",
    "right_contradicted": "right, but contradicted",
    "unsupported": "right letter, unsupported",
    "lamp": "letter is the lamp's",
    "lamp_wrong": "right letter where the lamp is wrong",
    "bonus_rate": "bonus rate",
    "likelihood": "likelihood",
    "at_cap": "at the cap",
    "auc": "AUC",
    "length": "tokens",
    "entropy": "entropy",
}
PLAIN = {"auc": 3, "length": 1, "entropy": 3, "likelihood": 3}
"""Decimals of what is not in percent."""
NOTHING = "-"
_NUMBER = re.compile(r"[+-]?\d")


def name_of(variant: str) -> str:
    return NAMES.get(variant, variant)


def grid(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; columns of numbers stand to the right."""
    rows = list(rows)
    columns = zip(*rows, strict=True) if rows else ([""] for _ in header)
    sides = ["---:" if any(_NUMBER.match(cell) for cell in column) else "---" for column in columns]
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, sides, *rows])


def mean(measure: str, value: Estimate, runs: int | None = None) -> str:
    """Mean ± standard error; the number of runs behind it where it is not `runs`."""
    if not value.count:
        return NOTHING
    scale, decimals = (1, PLAIN[measure]) if measure in PLAIN else (100, 1)
    error = "" if math.isnan(value.error) else f" ± {scale * value.error:.{decimals}f}"
    fewer = "" if runs in (None, value.count) else f" ({value.count})"
    return f"{scale * value.mean:.{decimals}f}{error}{fewer}"


def difference(value: Estimate, runs: int | None = None) -> str:
    """Points, with the 95 % interval where there is one."""
    if not value.count:
        return NOTHING
    interval = "" if math.isnan(value.error) else f" [{signed(value.low)}, {signed(value.high)}]"
    fewer = "" if runs in (None, value.count) else f" ({value.count})"
    return signed(value.mean) + interval + fewer


def signed(share: float) -> str:
    return f"{round(100 * share, 1) + 0.0:+.1f}"  # the sum: no negative zero
