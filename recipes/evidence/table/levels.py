"""What every variant reaches on every level, and what its rollouts were like."""

from __future__ import annotations

from collections import Counter, defaultdict

from data_prep.miniature_world import LEVELS
from recipes.evidence.table.committed import WARM_START, Answers, Committed
from recipes.evidence.table.markdown import MEASURES, grid, mean, name_of
from recipes.evidence.table.statistics import estimate

HEADLINE = (WARM_START, "grpo", "no_kl", "care")
OF_LEVELS = ("accuracy", "consistency", "right_reason", "right_contradicted", "right_letter", "unsupported", "format")
OF_LEVELS += ("consistency_loose", "lamp", "lamp_wrong", "at_cap", "auc", "length")
OF_TRAINING = ("accuracy", "consistency", "right_reason", "right_contradicted", "right_letter", "unsupported")
OF_TRAINING += ("bonus_rate", "likelihood", "at_cap", "auc", "length", "entropy")


def headline(found: Committed) -> str:
    """Accuracy and consistency of the three that everything is about."""
    rows = []
    for variant in HEADLINE:
        pairs = [
            mean(measure, estimate(list(found.measured(variant, "sampled", measure, level).values())))
            for level in LEVELS
            for measure in ("accuracy", "consistency")
        ]
        if runs := len(found.levels(variant, "sampled")):
            rows.append([name_of(variant), str(runs), *pairs])
    header = [f"{level} {measure}" for level in LEVELS for measure in ("accuracy", "consistency")]
    return grid(["", "runs", *header], rows)


def levels(found: Committed, answers: Answers) -> str:
    """A table for each level; a measure that no variant has is no column."""
    how = "sampled at temperature 1" if answers == "sampled" else "greedy"
    parts = [f"After {found.steps} steps, {how}; mean ± standard error over runs."]
    variants = [WARM_START, *found.variants]
    shown = [m for m in OF_LEVELS if any(found.measured(v, answers, m, level) for v in variants for level in LEVELS)]
    for level in LEVELS:
        rows = []
        for variant in variants:
            if runs := len(found.levels(variant, answers)):
                values = [estimate(list(found.measured(variant, answers, m, level).values())) for m in shown]
                cells = [mean(m, value, runs) for m, value in zip(shown, values, strict=True)]
                rows.append([name_of(variant), str(runs), *cells])
        if rows:
            parts.append(grid([f"{level}, {answers}", "runs", *(MEASURES[m] for m in shown)], rows))
    return "\n\n".join(parts)


def training(found: Committed) -> str:
    """The rollouts of the last quarter of training."""
    shown = [measure for measure in OF_TRAINING if any(found.trained(v, measure) for v in found.variants)]
    rows = []
    for variant in found.variants:
        runs = len(found.runs[variant])
        values = [estimate(list(found.trained(variant, measure).values())) for measure in shown]
        cells = [mean(measure, value, runs) for measure, value in zip(shown, values, strict=True)]
        rows.append([name_of(variant), str(runs), *cells])
    return grid(["rollouts of the last quarter", "runs", *(MEASURES[measure] for measure in shown)], rows)


def made_with(found: Committed) -> str:
    """Seeds and hours, and all versions and machines that took part."""
    rows = []
    for variant in found.variants:
        results = list(found.runs[variant].values())
        minutes = estimate([result["seconds"] / 60 for result in results])
        seeds = ", ".join(str(result["seed"]) for result in results)
        rows.append([name_of(variant), str(len(results)), seeds, f"{minutes.mean:.1f}"])
    hours = sum(result["seconds"] for result in found.results) / 3600
    machines = Counter(_machine(result["hardware"]) for result in found.results)
    versions = Counter(", ".join(f"{n} {v}" for n, v in result["versions"].items()) for result in found.results)
    said = [
        f"{len(found.results)} runs of {found.steps} steps, {hours:.1f} hours of training. "
        f"Machine: {_listed(machines)}. Versions: {_listed(versions)}."
    ]
    return "\n\n".join([grid(["variant", "runs", "seeds", "minutes a run"], rows), *said, *_warm_starts(found)])


def _warm_starts(found: Committed) -> list[str]:
    """Whether the runs of a seed that say which weights they began with say the same; nothing if none does."""
    weights: dict[int, set[str]] = defaultdict(set)
    said = [result for result in found.results if result.get("warm_start")]
    for result in said:
        weights[result["seed"]].add(result["warm_start"])
    if not said:
        return []
    differing = [str(seed) for seed, different in sorted(weights.items()) if len(different) > 1]
    same = f"seeds {', '.join(differing)} began with different ones" if differing else "those of a seed began alike"
    return [f"{len(said)} runs say with which weights they began: {same}."]


def _machine(hardware: dict) -> str:
    return f"{hardware['cpus']} logical cores, {hardware.get('model', hardware['machine'])}"


def _listed(counted: Counter[str]) -> str:
    if len(counted) == 1:
        return next(iter(counted))
    return "; ".join(f"{text} ({count} runs)" for text, count in counted.most_common())
