"""Differences of two variants, paired by seed: they share the warm start and the order of the questions."""

from __future__ import annotations

from collections.abc import Sequence

from data_prep.miniature_world import LEVELS
from recipes.evidence.table.committed import Answers, Committed
from recipes.evidence.table.markdown import MEASURES, difference, grid, name_of
from recipes.evidence.table.statistics import Estimate, paired

RIVALS = ("no_kl", "grpo")
METHODS = ("kl_ema", "dense_cons", "ref_gen")
REFERENCES = ("care_frozen", "care_at_once")
READINGS = ("care_margin", "care_arithmetic")
SHOWN = ("accuracy", "consistency", "right_reason", "right_contradicted", "right_letter")
PAIRED = "In points, with 95 % intervals by Student's t over pairs of runs that share their seed."


def between(
    found: Committed, one: str, other: str, answers: Answers, measure: str, level: str | None = None
) -> Estimate:
    """`one` minus `other` on a level, or in the mean over the three."""
    return paired(found.measured(one, answers, measure, level), found.measured(other, answers, measure, level))


def care(found: Committed) -> str:
    """CARE minus its rivals on every level, sampled and greedy."""
    return _by_level(found, "care", RIVALS)


def methods(found: Committed) -> str:
    """CARE minus the paper's other methods that ask a reference or are kept near one that moves."""
    return _by_level(found, "care", METHODS)


def reference(found: Committed) -> str:
    """CARE with the EMA minus CARE with other references."""
    return _by_level(found, "care", REFERENCES)


def readings(found: Committed) -> str:
    """CARE as in the SEED-Bench-R1 run minus CARE with the other runs' margin, and with the paper's mean."""
    return _by_level(found, "care", READINGS)


def _by_level(found: Committed, one: str, others: Sequence[str]) -> str:
    rows = []
    for other in others:
        for answers in ("sampled", "greedy"):
            for level in LEVELS:
                values = [between(found, one, other, answers, measure, level) for measure in SHOWN]
                if values[0].count:
                    cells = [difference(value, values[0].count) for value in values]
                    rows.append([name_of(other), answers, level, str(values[0].count), *cells])
    header = [f"{name_of(one)} minus", "answers", "level", "pairs", *(MEASURES[measure] for measure in SHOWN)]
    return f"{PAIRED}\n\n{grid(header, rows)}"


def variants(found: Committed, answers: Answers) -> str:
    """Every variant minus each rival: accuracy and consistency on every level."""
    rows = []
    for rival in RIVALS:
        for variant in found.variants:
            if variant in RIVALS[: RIVALS.index(rival) + 1]:
                continue  # with itself, or said the other way around already
            pairs = [
                between(found, variant, rival, answers, measure, level)
                for measure in ("accuracy", "consistency")
                for level in LEVELS
            ]
            if pairs[0].count:
                cells = [difference(value, pairs[0].count) for value in pairs]
                rows.append([name_of(variant), name_of(rival), str(pairs[0].count), *cells])
    header = [f"{measure} {level}" for measure in ("accuracy", "consistency") for level in LEVELS]
    return f"{PAIRED}\n\n{grid([f'variant, {answers}', 'minus', 'pairs', *header], rows)}"
