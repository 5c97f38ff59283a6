"""The tables of a run's scores, and of two runs'."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from verl_care.evaluation.scoring.comparison import Comparison, Paired, Question
from verl_care.evaluation.scoring.rules import PARSERS
from verl_care.evaluation.scoring.summary import Group, Summary, VsiBench
from verl_care.evaluation.scoring.tables import Cell, Table

_NAMED = 10  # questions, reasons: the JSON has all of them
_SCORE_NOTES = (
    "exact: as the released evaluation reads an answer; lenient: as a person would. What they differ by is format.",
    "[ ]: 95 % of bootstrap resamples of the questions. Regression counts its mean relative accuracy.",
    "missing responses are wrong; no block: answered without a closed answer block; unread: nor any lenient answer.",
)


def label(group: Group) -> str:
    return f"  {group.by}: {group.value}" if group.by else group.benchmark


def score_tables(
    name: str,
    summaries: Sequence[Summary],
    vsi_bench: VsiBench | None,
    failures: Sequence[tuple[str, int]],
    left_out: int,
    parser: str,
) -> Iterator[Table]:
    """Accuracy, and what a run has beyond it: samples, measures of consistency, VSI-Bench's types, failures."""
    yield _accuracy(name, summaries, left_out, parser)
    if any(summary.samples for summary in summaries):
        yield _samples(name, summaries, parser)
    if any(summary.consistency for summary in summaries):
        yield _consistency(name, summaries, parser)
    if vsi_bench is not None:
        yield _vsi_bench(name, vsi_bench)
    if failures:
        rest = [(f"{len(failures) - _NAMED} other reasons", sum(count for _, count in failures[_NAMED:]))]
        rows = [*failures[:_NAMED], *(rest if len(failures) > _NAMED else [])]
        yield Table(f"{name}: missing responses", ("reason", "responses"), rows)


def _ordered(parser: str) -> tuple[str, ...]:
    return (parser, *(other for other in PARSERS if other != parser))


def _accuracy(name: str, summaries: Sequence[Summary], left_out: int, parser: str) -> Table:
    parsers = _ordered(parser)
    counts = ("missing", "cut off", "no block", "unread", "not scored")
    notes: list[str] = [*_SCORE_NOTES]
    if left_out:
        notes.append(f"{left_out} rows are left out: --failures drops what has no response, or its batch of four, too.")
    if any(summary.not_scored for summary in summaries):
        notes.append(
            "not scored: the released evaluation has no rule for OCR and free-form answers, and none is known "
            "for other types; --open-answers graded scores them as training does."
        )
    return Table(
        f"{name}: accuracy",
        ("", "questions", "responses", *parsers, "format", *counts),
        [
            (
                *(label(s.group), s.questions, s.responses, *(s.accuracy[p] for p in parsers), s.format_rate),
                *(s.missing, s.cut, s.no_block, s.no_lenient_answer, s.not_scored),
            )
            for s in summaries
        ],
        notes,
    )


def _samples(name: str, summaries: Sequence[Summary], parser: str) -> Table:
    parsers = _ordered(parser)
    sampled = [(s, s.samples) for s in summaries if s.samples]
    draws = list(dict.fromkeys(k for _, samples in sampled for k in samples.best if k != "1"))
    draws.sort(key=int)
    rows: list[list[Cell]] = []
    for summary, samples in sampled:
        row: list[Cell] = [label(summary.group), summary.questions, samples.k, samples.fewer]
        for p in parsers:
            row += [summary.accuracy[p], samples.majority[p], *(samples.best.get(k, {}).get(p) for k in draws)]
        rows.append(row)
    kinds = [f"{kind} {p}" for p in parsers for kind in ("mean@k", "maj@k", *(f"pass@{k}" for k in draws))]
    notes = ["pass@k is the unbiased estimate, over questions that have k samples; maj@k shares a tie."]
    return Table(f"{name}: k samples a question", ("", "questions", "k", "with fewer", *kinds), rows, notes)


def _consistency(name: str, summaries: Sequence[Summary], parser: str) -> Table:
    measures = list(dict.fromkeys(measure for summary in summaries for measure in summary.consistency))
    columns, rows = ["", "responses", f"accuracy {parser}"], []
    for measure in measures:
        columns += [measure, "unknown", "not measured", "right and consistent"]
    for summary in summaries:
        row: list[Cell] = [label(summary.group), summary.responses, summary.accuracy[parser]]
        for measure in measures:
            found = summary.consistency[measure]
            row += [found.mean, found.unknown, found.not_measured, found.right_and_consistent.get(parser)]
        rows.append(row)
    notes = (
        "A measure is the mean over responses of which it knows; 100 is consistent.",
        "right and consistent: share of all responses that were measured; an unknown is not shown to be consistent.",
    )
    return Table(f"{name}: consistency", columns, rows, notes)


def _vsi_bench(name: str, score: VsiBench) -> Table:
    rows: list[Sequence[Cell]] = [("mean of the types", sum(n for n, _ in score.types.values()), score.overall)]
    rows += [(f"  {kind}", questions, mean) for kind, (questions, mean) in score.types.items()]
    notes = ["By VSI-Bench's own rules: the three difficulties of direction count as one type."]
    if score.unknown_type:
        notes.append(f"No mean: {score.unknown_type} questions have no known task_type, in tags or in wording.")
    return Table(f"{name}: VSI-Bench by its types", ("", "questions", "score"), rows, notes)


def comparison_tables(
    name_a: str, name_b: str, comparison: Comparison, settings: Sequence[tuple[str, str, str]], parser: str
) -> Iterator[Table]:
    """By both parsers, by every measure of both runs, and what could not be compared or differs in the settings."""
    names = f"{name_a} (A) and {name_b} (B)"
    for p in _ordered(parser):
        yield _paired(f"{names}, {p}", [(g.group, g.scores.get(p)) for g in comparison.groups])
    for measure in dict.fromkeys(measure for g in comparison.groups for measure in g.measures):
        yield _paired(f"{names}, {measure}", [(g.group, g.measures.get(measure)) for g in comparison.groups])
    left_out = (
        ("only in A", comparison.only_a),
        ("only in B", comparison.only_b),
        ("same id, other question", comparison.differ),
    )
    rows = [(why, len(questions), _names(questions)) for why, questions in left_out if questions]
    if comparison.not_scored:
        rows.append(("no rule scores them", comparison.not_scored, "see --open-answers"))
    if rows:
        yield Table("not compared", ("why", "questions", "which"), rows)
    if settings:
        yield Table("settings that differ", ("setting", "A", "B"), settings)


def _paired(title: str, groups: Sequence[tuple[Group, Paired | None]]) -> Table:
    rows = [
        (
            *(label(group), found.questions, found.mean_a, found.mean_b, found.difference),
            *(found.wins, found.losses, f"{found.p_value:.4f}", "McNemar" if found.mcnemar else "sign"),
        )
        for group, found in groups
        if found
    ]
    notes = ("Questions of both runs. p: exact, two-sided; [ ]: 95 % of bootstrap resamples of question pairs.",)
    return Table(title, ("", "questions", "A", "B", "B - A", "B wins", "A wins", "p", "test"), rows, notes)


def _names(questions: Sequence[Question]) -> str:
    named = ", ".join(f"{dataset} {id}" for dataset, id in questions[:_NAMED])
    return named if len(questions) <= _NAMED else f"{named}, ..."
