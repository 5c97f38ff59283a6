"""The results of finished runs, as the tables ask for them: by variant, seed, level and measure."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from data_prep.miniature_world import LEVELS
from recipes.evidence.plan import VARIANTS
from recipes.evidence.results import SCHEMA
from verl_care.consistency_measures.calibration import Bin, expected_calibration_error

Result = Mapping[str, Any]
Answers = Literal["sampled", "greedy"]
WARM_START = "warm_start"
"""Stands beside the variants: what they all began as."""
_OF_ONE_RUN = re.compile(r"(seed|experiment_name|val_before_train|test_freq)=")
"""Who a run is, and when it is looked at, which changes no training."""
LAST_PART = 0.25
"""What is said of training rollouts is of this last part of the training."""


@dataclass(frozen=True)
class Committed:
    """Results of runs of one length."""

    runs: Mapping[str, Mapping[int, Result]]
    """Variant -> seed -> result."""
    steps: int

    @property
    def variants(self) -> list[str]:
        """Those with results, in the plan's order."""
        return [variant for variant in VARIANTS if variant in self.runs]

    @property
    def results(self) -> list[Result]:
        return [result for variant in self.variants for result in self.runs[variant].values()]

    @property
    def seeds(self) -> list[int]:
        return sorted({seed for seeds in self.runs.values() for seed in seeds})

    @property
    def shared(self) -> Committed:
        """The runs of seeds that more than half of the variants have. Seeds differ more than variants do: a mean over
        some and one over others do not tell variants apart."""
        counted = Counter(seed for seeds in self.runs.values() for seed in seeds)
        return self.only([seed for seed, variants in counted.items() if 2 * variants > len(self.runs)])

    @property
    def complete(self) -> Committed:
        """The variants that have every seed."""
        return Committed({v: found for v, found in self.runs.items() if set(found) == set(self.seeds)}, self.steps)

    def only(self, seeds: Collection[int]) -> Committed:
        runs = {variant: {s: r for s, r in found.items() if s in seeds} for variant, found in self.runs.items()}
        return Committed({variant: found for variant, found in runs.items() if found}, self.steps)

    def levels(self, variant: str, answers: Answers) -> dict[int, Mapping[str, Mapping[str, float]]]:
        """Seed -> level -> measures, after the last step; of `WARM_START`, before the first. Seeds without are absent.

        A warm start is the same in all runs of its seed: of those that validated it the first is taken.
        """
        if variant == WARM_START:
            first = [(result["seed"], result["validation"][0]) for result in reversed(self.results)]
            before = dict(sorted(((s, found) for s, found in first if found["step"] == 0), key=lambda pair: pair[0]))
            return before if answers == "sampled" else {}
        found = self.runs.get(variant, {})
        if answers == "sampled":
            return {seed: result["validation"][-1] for seed, result in found.items()}
        return {seed: result["greedy"] for seed, result in found.items() if result.get("greedy")}

    def measured(self, variant: str, answers: Answers, measure: str, level: str | None = None) -> dict[int, float]:
        """Seed -> value on a level, or its mean over the three; seeds that do not have it are absent."""
        wanted = (level,) if level else LEVELS
        return {
            seed: float(np.mean([levels[name][measure] for name in wanted]))
            for seed, levels in self.levels(variant, answers).items()
            if all(measure in levels[name] for name in wanted)
        }

    def trained(self, variant: str, measure: str) -> dict[int, float]:
        """Seed -> mean of a training curve over the last part of the training."""
        found: dict[int, float] = {}
        for seed, result in self.runs.get(variant, {}).items():
            curve = result["training"]
            points = zip(curve["step"], curve.get(measure, ()), strict=False)
            values = [v for step, v in points if v is not None and step > self.steps * (1 - LAST_PART)]
            if values:
                found[seed] = float(np.mean(values))
        return found

    def quarter(self, variant: str, quarter: int) -> list[Mapping[str, Any]]:
        """That part's calibration of every run that scored something in it."""
        found = [result["calibration"] for result in self.runs.get(variant, {}).values()]
        return [parts[quarter] for parts in found if len(parts) > quarter and sum(parts[quarter]["count"])]


def read(folder: Path) -> Committed | None:
    """All results of a folder; None where there are none.

    Raises:
        ValueError: results of different lengths or settings, unfinished or unknown ones: no table could hold them.
    """
    found: dict[str, dict[int, Result]] = defaultdict(dict)
    lengths: dict[int, list[str]] = defaultdict(list)
    for path in sorted(folder.glob("*.json")):
        result = _checked(path)
        found[result["variant"]][result["seed"]] = dict(result)
        lengths[result["steps"]].append(path.name)
    if len(lengths) > 1:
        counted = ", ".join(f"{len(names)} of {steps} steps ({names[0]})" for steps, names in sorted(lengths.items()))
        raise ValueError(
            f"{folder} holds results of different lengths: {counted}. One table needs runs of one length: move those "
            "of another length to a folder of their own and name it with --results"
        )
    _check_settings(folder, [result for seeds in found.values() for result in seeds.values()])
    ordered = {variant: dict(sorted(seeds.items())) for variant, seeds in found.items()}
    return Committed(ordered, next(iter(lengths))) if lengths else None


def _checked(path: Path) -> Result:
    again = f"remove it and call `python -m recipes.evidence --results {path.parent}`, which makes what is missing"
    try:
        result = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}): {again}") from error
    if result.get("schema") != SCHEMA:
        raise ValueError(f"{path} has schema {result.get('schema')}, this version writes {SCHEMA}: {again}")
    if result["variant"] not in VARIANTS:
        raise ValueError(f"{path} is of {result['variant']!r}, no variant of recipes/evidence/plan.py: {again}")
    validated = [entry["step"] for entry in result["validation"]]
    if validated[-1:] != [result["steps"]]:
        raise ValueError(f"{path} is of {result['steps']} steps, validated at {validated} and not at the last: {again}")
    return result


def _check_settings(folder: Path, results: list[Result]) -> None:
    settings = [(result, _common(result)) for result in results]
    for result, common in settings[1:]:
        if differing := common ^ settings[0][1]:
            names = " and ".join(f"{found['variant']}_{found['seed']}.json" for found in (settings[0][0], result))
            raise ValueError(
                f"{folder}: {names} were trained with other settings than their variants': "
                f"{', '.join(sorted(differing))}. Remove those that are out of date, and make them again"
            )


def _common(result: Result) -> set[str]:
    """What all runs have to share: their lessons, and their overrides without the variant's, its seed and its name."""
    own = VARIANTS[result["variant"]]
    overrides = {found for found in result["overrides"] if found not in own and not _OF_ONE_RUN.search(found)}
    return overrides | {f"warm starts of lessons {result['lessons']}"}


def bins_of(parts: list[Mapping[str, Any]]) -> list[Bin]:
    """The reliability curve of several runs together; empty bins are left out."""
    sums = {name: np.sum([part[name] for part in parts], axis=0) for name in ("count", "likelihood", "consistent")}
    total = len(sums["count"])
    return [
        Bin(place / total, (place + 1) / total, int(count), float(likelihood / count), float(consistent / count))
        for place, (count, likelihood, consistent) in enumerate(zip(*sums.values(), strict=True))
        if count
    ]


def calibration_error(part: Mapping[str, Any]) -> float:
    """Of one run: mean over its responses of |mean likelihood - share that is consistent| of their bin."""
    return expected_calibration_error(bins_of([part]))
