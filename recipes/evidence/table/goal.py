"""The goal that was set before the runs, clause by clause."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from data_prep.miniature_world import LEVELS
from recipes.evidence.table.committed import Answers, Committed
from recipes.evidence.table.differences import RIVALS, between
from recipes.evidence.table.markdown import MEASURES, NOTHING, difference, grid, name_of
from recipes.evidence.table.statistics import Estimate, seeds_to_resolve

REACHED, NOT_REACHED, NOT_RESOLVED, NO_RUNS = "reached", "not reached", "not resolved", "no runs"
EXPLAINED = (
    "Differences in points, with 95 % intervals over pairs of runs that share their seed. Reached: the mean and all of "
    "the interval are what the clause asks for. Not resolved: the mean is, but not all of the interval; or there is "
    "one pair alone. Not reached: the mean is not."
)


class Clause(NamedTuple):
    """What CARE minus a rival should be on a level."""

    measure: str
    level: str
    mean: float
    """The mean has to be at least this."""
    low: float
    """The interval has to lie above this."""
    words: str

    def verdict(self, value: Estimate) -> str:
        if not value.count:
            return NO_RUNS
        if value.count == 1:
            return NOT_RESOLVED
        if value.mean < self.mean:
            return NOT_REACHED
        return REACHED if value.low > self.low else NOT_RESOLVED


CLAUSES = (
    *(Clause("consistency", level, 0.15, 0.0, "15 points more, interval above zero") for level in LEVELS),
    *(Clause("accuracy", level, -0.02, -0.02, "no lower, within 2 points") for level in ("L1", "L2")),
    Clause("accuracy", "L3", 0.0, 0.0, "higher"),
)


def goal(found: Committed) -> str:
    rows = []
    counted: dict[Answers, Counter[str]] = {"sampled": Counter(), "greedy": Counter()}
    for clause in CLAUSES:
        for rival in RIVALS:
            cells: list[str] = []
            for answers, verdicts in counted.items():
                value = between(found, "care", rival, answers, clause.measure, clause.level)
                verdict = clause.verdict(value)
                verdicts[verdict] += 1
                cells += [difference(value), str(value.count), verdict]
            rows.append([f"{MEASURES[clause.measure]} {clause.level}: {clause.words}", name_of(rival), *cells])
    header = [column for answers in counted for column in (answers, "pairs", "verdict")]
    table = grid(["CARE's", "against", *header], rows)
    wanted = ", ".join(f"{level} {_seeds_wanted(found, level)}" for level in LEVELS)
    summed = [f"{answers.capitalize()}: {_summed(verdicts)}." for answers, verdicts in counted.items()]
    more = f"Pairs with GRPO that would tell CARE's consistency from it, at this mean and spread, sampled: {wanted}."
    return "\n\n".join([EXPLAINED, table, " ".join(summed), more])


def _seeds_wanted(found: Committed, level: str) -> str:
    needed = seeds_to_resolve(between(found, "care", "grpo", "sampled", "consistency", level))
    return NOTHING if needed is None else str(needed)


def _summed(verdicts: Counter[str]) -> str:
    total = sum(verdicts.values())
    return f"of {total} clauses " + ", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common())
