"""The published numbers, for tables and pages that set ours beside them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files


@dataclass(frozen=True)
class Figure:
    """One number of one method.

    `dataset` is a `data_source` without problem type: seed_bench_r1/L1, vsibench; seed_bench_r1/L3/daily is a domain of
    L3, and seed_bench_r1 all three levels.
    """

    metric: str  # accuracy, consistency
    dataset: str
    method: str
    value: float  # a fraction
    source: str


SEED_BENCH_R1 = "seed_bench_r1"
LEVELS = ("L1", "L2", "L3")
DOMAINS = ("daily", "hobbies", "recreation", "work")
GENERAL = {
    "vsibench": "VSI-Bench",
    "videommmu": "VideoMMMU",
    "mmvu": "MMVU",
    "mvbench": "MVBench",
    "tempcompass": "TempCompass",
    "videomme": "VideoMME",
}
QUESTIONS = {
    "seed_bench_r1/L1": 2432,
    "seed_bench_r1/L2": 923,
    "seed_bench_r1/L3": 1321,
    "mmvu": 625,
    "mvbench": 4000,
    "videomme": 2700,
    "videommmu": 900,
    "vsibench": 5130,
    "tempcompass": 7540,
}
"""How many questions the published evaluation files hold."""


@lru_cache(maxsize=1)
def figures() -> tuple[Figure, ...]:
    """All of `published.json`, in its order."""
    held = json.loads(files("verl_care.evaluation").joinpath("published.json").read_text())
    source = held["source"]
    found = []
    for table in held["tables"]:
        for method, values in table["methods"].items():
            named = zip(table["datasets"], values, strict=True)
            found += [
                Figure(metric, dataset, method, value, f"{source}, {table['setting']}")
                for (metric, dataset), value in named
                if value is not None
            ]
    return tuple(found)
