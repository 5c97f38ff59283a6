"""Our variants beside the published ones: another model, another benchmark, another judge of consistency.

Published: SEED-Bench-R1 in arXiv 2506.16141 (`verl_care/evaluation/published.json`), one run each, accuracy by level;
consistency is GPT-4.1's verdict, one number for each method. So only the order is compared, of the mean over levels.
"""

from __future__ import annotations

from itertools import combinations

from data_prep.miniature_world import LEVELS
from recipes.evidence.table.committed import Committed
from recipes.evidence.table.differences import between
from recipes.evidence.table.levels import HEADLINE
from recipes.evidence.table.markdown import grid, mean, name_of
from recipes.evidence.table.statistics import Estimate, estimate, ranks
from verl_care.evaluation.published import SEED_BENCH_R1, figures

PUBLISHED = {
    "grpo": "GRPO",
    "no_kl": "noKL",
    "care": "CARE",
    "kl_ema": "KL-EMA",
    "kl_ema_ha": "KL-EMA-HA",
    "sepkl_ema_ha": "SepKL-EMA-HA",
    "dense_cons": "DenseCons",
    "ref_gen": "RefGen",
}
COMPARED = ("accuracy", "consistency")
SUMMED = ("accuracy", "right_letter", "consistency", "right_reason")


def published() -> dict[str, dict[str, list[float]]]:
    """Variant -> accuracy on the three levels, consistency as one number."""
    found = {(figure.method, figure.metric, figure.dataset): figure.value for figure in figures()}
    return {
        variant: {
            "accuracy": [found[method, "accuracy", f"{SEED_BENCH_R1}/{level}"] for level in LEVELS],
            "consistency": [found[method, "consistency", SEED_BENCH_R1]],
        }
        for variant, method in PUBLISHED.items()
    }


def order(found: Committed) -> str:
    """Sampled answers. Places are among the variants that have all seeds: seeds differ more than variants do."""
    theirs = {v: numbers for v, numbers in published().items() if v in found.runs}
    all_seeds = {seed for variant in theirs for seed in found.runs[variant]}
    fewer = [variant for variant in theirs if set(found.runs[variant]) != all_seeds]
    if len(fewer) < len(theirs):
        theirs = {v: numbers for v, numbers in theirs.items() if v not in fewer}
    rows = []
    places = {name: (ranks(_means(theirs, name)), ranks(_ours(found, list(theirs), name))) for name in COMPARED}
    for variant, numbers in theirs.items():
        by_level = [estimate(list(found.measured(variant, "sampled", "accuracy", level).values())) for level in LEVELS]
        consistency = estimate(list(found.measured(variant, "sampled", "consistency").values()))
        rows.append(
            [
                name_of(variant), str(consistency.count),
                " / ".join(f"{100 * value:.1f}" for value in numbers["accuracy"]),
                " / ".join(f"{100 * value.mean:.1f}" for value in by_level),
                " / ".join(str(place[variant]) for place in places["accuracy"]),
                f"{100 * numbers['consistency'][0]:.1f}", f"{100 * consistency.mean:.1f}",
                " / ".join(str(place[variant]) for place in places["consistency"]),
            ]
        )  # fmt: skip
    place = "place, published / here"
    header = ["", "runs", "accuracy L1 / L2 / L3, published", "here", place, "consistency, published", "here", place]
    said = [f"{name.capitalize()}: {agreement(found, _means(theirs, name), name)}" for name in COMPARED]
    if fewer and not set(fewer) & set(theirs):
        said.append(f"Not compared, as they lack seeds: {', '.join(map(name_of, fewer))}.")
    return "\n\n".join([grid(header, rows), *said])


def summary(found: Committed) -> str:
    """The three that everything is about and what they began as, on one screen: means over the levels, sampled."""
    rows = []
    for variant in HEADLINE:
        values = {m: estimate(list(found.measured(variant, "sampled", m).values())) for m in SUMMED}
        if count := values["consistency"].count:
            rows.append([name_of(variant), str(count), *(mean(measure, value) for measure, value in values.items())])
    return grid(["", "runs", "accuracy", "right letter", "consistent", "right and consistent"], rows)


def agreement(found: Committed, theirs: dict[str, float], measure: str) -> str:
    """How many pairs of variants stand in the published order here; resolved: the interval excludes zero."""
    same: list[Estimate] = []
    other: list[Estimate] = []
    for one, two in combinations(theirs, 2):
        value = between(found, one, two, "sampled", measure)
        if value.count and value.mean and theirs[one] != theirs[two]:
            (same if (value.mean > 0) == (theirs[one] > theirs[two]) else other).append(value)
    if not same and not other:
        return "no two variants share a seed."
    return (
        f"of {len(same) + len(other)} pairs of variants {len(same)} stand in the published order, {_resolved(same)}; "
        f"{len(other)} in the opposite one, {_resolved(other)}."
    )


def _resolved(values: list[Estimate]) -> str:
    return f"{sum(value.resolved for value in values)} of them with a 95 % interval that excludes zero"


def _means(theirs: dict[str, dict[str, list[float]]], measure: str) -> dict[str, float]:
    return {variant: sum(numbers[measure]) / len(numbers[measure]) for variant, numbers in theirs.items()}


def _ours(found: Committed, variants: list[str], measure: str) -> dict[str, float]:
    return {v: estimate(list(found.measured(v, "sampled", measure).values())).mean for v in variants}
