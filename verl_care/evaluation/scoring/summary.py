"""What is said of each group of questions: accuracy by both parsers, what went missing, and every measure found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from verl_care.evaluation.rows import Row
from verl_care.evaluation.scoring import vsi_bench
from verl_care.evaluation.scoring.intervals import Bootstrap, Estimate, mean, mean_of_strata, ratio
from verl_care.evaluation.scoring.responses import Responses, benchmark_of
from verl_care.evaluation.scoring.rules import PARSERS
from verl_care.evaluation.scoring.samples import best_of, majority, question_means

DIMENSIONS = ("problem_type", "domain", "task_type", "duration")
NO_TAG = "(none)"


@dataclass(frozen=True)
class Group:
    """Some questions of one benchmark: all of them where `by` is empty."""

    benchmark: str
    by: str
    value: str


@dataclass(frozen=True)
class Samples:
    """Of more than one sample a question."""

    k: int
    fewer: int  # questions with fewer samples than k
    majority: Mapping[str, Estimate]  # parser -> maj@k
    best: Mapping[str, Mapping[str, Estimate]]  # "1", "2", "4", ..., "k" -> parser -> pass@that, where there are enough


@dataclass(frozen=True)
class Consistency:
    """One measure over one group."""

    mean: Estimate | None  # among known
    known: int
    unknown: int
    not_measured: int
    right_and_consistent: Mapping[str, Estimate]  # parser -> share of the measured; unknown is not consistent


@dataclass(frozen=True)
class Summary:
    group: Group
    questions: int
    responses: int
    accuracy: Mapping[str, Estimate | None]  # parser -> mean score; None: nothing is scored
    not_scored: int  # responses of a problem type that no rule scores; outside `accuracy`
    missing: int
    cut: int
    no_block: int
    no_lenient_answer: int  # answered, and the lenient parser finds no answer either
    format_rate: float
    samples: Samples | None
    consistency: Mapping[str, Consistency]


@dataclass(frozen=True)
class ReleasedTotals:
    """The three figures that the released evaluation prints of a benchmark."""

    mean_acc: float | None  # everything but regression
    mean_mra: float  # regression; 0 where there is none
    mean_rewards: float | None  # everything


def value_of(row: Row, dimension: str) -> str:
    if dimension in ("dataset", "problem_type"):
        return getattr(row, dimension)
    if dimension == "task_type" and vsi_bench.is_vsi_bench(row):
        return vsi_bench.type_of(row) or NO_TAG
    return row.tags.get(dimension) or NO_TAG


def groups_of(rows: Sequence[Row], dimensions: Sequence[str] = DIMENSIONS) -> Iterator[tuple[Group, np.ndarray]]:
    """(group, mask_N): each benchmark, and its parts by each dimension that divides it."""
    benchmark_N = np.array([benchmark_of(row.dataset) for row in rows], dtype=object)
    columns = {name: np.array([value_of(row, name) for row in rows], dtype=object) for name in dimensions}
    for benchmark in sorted(set(benchmark_N)):
        whole_N = benchmark_N == benchmark
        yield Group(benchmark, "", ""), whole_N
        for dimension, value_N in columns.items():
            values = sorted(set(value_N[whole_N]))
            if len(values) > 1:
                for value in values:
                    yield Group(benchmark, dimension, value), whole_N & (value_N == value)


def summaries(responses: Responses, how: Bootstrap, dimensions: Sequence[str] = DIMENSIONS) -> list[Summary]:
    return [summarise(responses, group, mask_N, how) for group, mask_N in groups_of(responses.rows, dimensions)]


def summarise(responses: Responses, group: Group, mask_N: np.ndarray, how: Bootstrap) -> Summary:
    question_M = responses.question_N[mask_N]
    scored_N = mask_N & ~np.isnan(responses.scores["exact"])
    answered_N = mask_N & ~responses.missing_N
    unread = sum(responses.answers["lenient"][place] is None for place in np.flatnonzero(answered_N).tolist())
    return Summary(
        group=group,
        questions=len(np.unique(question_M)),
        responses=len(question_M),
        accuracy={parser: mean_score(responses, parser, mask_N, how) for parser in PARSERS},
        not_scored=int((mask_N & ~scored_N).sum()),
        missing=int(responses.missing_N[mask_N].sum()),
        cut=int(responses.cut_N[mask_N].sum()),
        no_block=int(responses.no_block_N[mask_N].sum()),
        no_lenient_answer=unread,
        format_rate=float(responses.format_N[mask_N].mean()),
        samples=_samples(responses, scored_N, how),
        consistency={name: consistency(responses, name, mask_N, how) for name in responses.measures},
    )


def mean_score(responses: Responses, parser: str, mask_N: np.ndarray, how: Bootstrap) -> Estimate | None:
    """Mean over questions of the mean over their samples."""
    scored_N = mask_N & ~np.isnan(responses.scores[parser])
    if not scored_N.any():
        return None
    return mean(question_means(responses.scores[parser][scored_N], responses.question_N[scored_N]), how)


def _samples(responses: Responses, scored_N: np.ndarray, how: Bootstrap) -> Samples | None:
    question_M = responses.question_N[scored_N]
    sizes = np.unique(question_M, return_counts=True)[1]
    k = int(sizes.max(initial=0))
    if k < 2:
        return None
    votes, best = {}, {}
    places = np.flatnonzero(scored_N).tolist()
    for parser in PARSERS:
        answers = [responses.answers[parser][place] for place in places]
        votes[parser] = mean(majority(responses.scores[parser][scored_N], answers, question_M), how)
    for draws in sorted({*(2**power for power in range(k.bit_length())), k}):
        best[str(draws)] = {p: mean(best_of(responses.scores[p][scored_N], question_M, draws), how) for p in PARSERS}
    return Samples(k, int((sizes < k).sum()), votes, best)


def consistency(responses: Responses, name: str, mask_N: np.ndarray, how: Bootstrap) -> Consistency:
    """Questions are drawn whole: the mean is the sum of known values over the number of known values."""
    value_N, measured_N = responses.measures[name], responses.measured[name] & mask_N
    known_N = ~np.isnan(value_N)
    binary = bool(np.isin(value_N[known_N], (0.0, 1.0)).all())
    right = {}
    for parser in PARSERS if binary else ():
        score_N = responses.scores[parser]
        both_N = np.nan_to_num(value_N) * score_N
        estimate = _over_questions(both_N, measured_N & ~np.isnan(score_N), responses, how)
        if estimate is not None:
            right[parser] = estimate
    known = int((measured_N & known_N).sum())
    measured = int(measured_N.sum())
    return Consistency(
        mean=_over_questions(value_N, measured_N & known_N, responses, how),
        known=known,
        unknown=measured - known,
        not_measured=int(mask_N.sum()) - measured,
        right_and_consistent=right,
    )


def _over_questions(value_N: np.ndarray, kept_N: np.ndarray, responses: Responses, how: Bootstrap) -> Estimate | None:
    if not kept_N.any():
        return None
    _, inverse_M = np.unique(responses.question_N[kept_N], return_inverse=True)
    return ratio(np.bincount(inverse_M, weights=value_N[kept_N]), np.bincount(inverse_M).astype(float), how)


def released_totals(responses: Responses, mask_N: np.ndarray, parser: str = "exact") -> ReleasedTotals:
    """Means over responses, as the release prints them; with `rules.AS_RELEASED` they are its numbers."""
    score_N = responses.scores[parser]
    regression_N = np.array([row.problem_type == "regression" for row in responses.rows], dtype=bool)
    scored_N = mask_N & ~np.isnan(score_N)

    def over(kept_N: np.ndarray) -> float | None:
        return float(score_N[kept_N].mean()) if kept_N.any() else None

    return ReleasedTotals(over(scored_N & ~regression_N), over(scored_N & regression_N) or 0.0, over(scored_N))


@dataclass(frozen=True)
class VsiBench:
    """VSI-Bench by its own rules."""

    types: Mapping[str, tuple[int, float]]  # question type -> (questions, mean score)
    overall: Estimate | None  # mean of the types, the three directions being one; None while a type is unknown
    unknown_type: int  # questions whose type neither data nor wording tells


def vsi_bench_score(responses: Responses, how: Bootstrap) -> VsiBench | None:
    """None where the run has no question of VSI-Bench."""
    vsi_N = np.array([vsi_bench.is_vsi_bench(row) for row in responses.rows], dtype=bool)
    if not vsi_N.any():
        return None
    type_N = np.array([vsi_bench.type_of(row) if vsi else None for row, vsi in zip(responses.rows, vsi_N, strict=True)])
    by_type = {}
    for kind in vsi_bench.TYPES:
        of_type_N = type_N == kind
        if of_type_N.any():
            by_type[kind] = question_means(responses.official_N[of_type_N], responses.question_N[of_type_N])
    unknown = len(np.unique(responses.question_N[vsi_N & (type_N == None)]))  # noqa: E711
    directions = [by_type[kind] for kind in vsi_bench.DIRECTIONS if kind in by_type]
    strata = [[scores] for kind, scores in by_type.items() if kind not in vsi_bench.DIRECTIONS]
    strata += [directions] if directions else []
    types = {kind: (len(scores), float(scores.mean())) for kind, scores in by_type.items()}
    return VsiBench(types, mean_of_strata(strata, how) if strata and not unknown else None, unknown)


def failures_of(rows: Sequence[Row]) -> list[tuple[str, int]]:
    """Why responses are missing, the most frequent reasons first."""
    reasons = Counter(row.failure or "no reason given" for row in rows if row.response is None)
    return sorted(reasons.items(), key=lambda found: (-found[1], found[0]))
