"""Tables of what leaves the language that the warm start was taught."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recipes.evidence.table import grammar, strays
from tests.unit.evidence_results import quarter, read, result

Shares = Sequence[float | None]


def test_how_many_letters_stray_and_what_it_pays(tmp_path: Path):
    kinds = (
        {"right": 1000, "stray": 100, "groups": 20, "gain": 0.05},
        {"right": 3000, "stray": 900, "groups": 40, "gain": -0.01}
        | {"off_list": 60, "off_list_groups": 10, "off_list_gain": -0.6},
        {"right": 0, "stray": 0, "groups": 0, "gain": None},
    )
    parts = [quarter(count=[1] * 10, strays=kind) for kind in kinds]
    runs = [result("care", seed, 0.8, 0.9, calibration=[part]) for seed, part in enumerate(parts)]
    # 1,000 of 4,000; 20 groups of 5 points and 40 of -1. The second kind was counted in one run: 60 of 3,000
    (row,) = strays.strays(read(tmp_path, *runs)).splitlines()[2:]
    assert row == (
        "| CARE | 1 to 10 | 3 | 4,000 | 25.0 | 10, 30 | 60 | +1.0 | +5.0, -1.0 | 2.0 | 2 | 10 | -60.0 | -60.0 |"
    )


def test_runs_that_leave_the_grammar(tmp_path: Path):
    stays = result("no_kl", 0, 0.8, 0.9) | {"training": curves([0.95, 0.9, None], [0.5, 0.6, None])}
    found = read(tmp_path, stays)
    assert grammar.grammar(found) == "None: every point of every run's curve has 90 % or more in the grammar."
    # under .9 at the points 40, 80 and 100: of steps 21 to 100, with the 60th in between; only one point before
    shares = [1.0, 0.85, 0.97, 0.55, 0.7, 1.0]
    leaves = result("care", 3, 0.8, 0.9) | {"training": curves(shares, [0.7, 0.6, 0.65, 0.45, 0.5, 0.8])}
    # the first point already; the five before the last one are no part of it
    whole = result("grpo", 1, 0.8, 0.9) | {"training": curves([0.5], [0.4])}
    later = result("grpo", 2, 0.8, 0.9) | {"training": curves([1.0] * 6 + [0.8], [0.1, 0.2, 0.3, 0.9, 0.6, 0.7, 0.5])}
    assert grammar.grammar(read(tmp_path, stays, leaves, whole, later)).splitlines() == [
        "| run | seed | steps | outside the grammar | consistent | consistent, 100 steps before |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        "| GRPO with KL | 1 | 1 to 20 | 50 | 40 | - |",
        "| GRPO with KL | 2 | 121 to 140 | 20 | 50 | 20 to 90 |",
        "| CARE | 3 | 21 to 100 | 3 to 45 | 45 to 65 | 70 |",
    ]


def curves(in_the_grammar: Shares, consistency: Shares) -> dict[str, Shares]:
    steps = [20 * (1 + place) for place in range(len(in_the_grammar))]
    return {"step": steps, "format": in_the_grammar, "consistency": consistency}
