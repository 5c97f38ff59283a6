"""The tables as the paper prints them, with rows for our runs and, on demand, the paper's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from verl_care.evaluation.published import DOMAINS, GENERAL, LEVELS, QUESTIONS, SEED_BENCH_R1, Figure
from verl_care.evaluation.rows import Row
from verl_care.evaluation.scoring.intervals import Bootstrap, Estimate
from verl_care.evaluation.scoring.responses import Responses, benchmark_of
from verl_care.evaluation.scoring.summary import consistency, mean_score, vsi_bench_score
from verl_care.evaluation.scoring.tables import Cell, Table

TYPE_MEAN = "mean_of_types"
_CONSISTENCY = "consistency"


@dataclass(frozen=True)
class Entry:
    """A published figure, or one of a run, which has an interval and a number of questions."""

    figure: Figure
    published: bool
    questions: int | None = None
    low: float | None = None
    high: float | None = None


def entries_of(name: str, responses: Responses, parser: str, how: Bootstrap) -> list[Entry]:
    """A run's numbers under the names that the published ones have; its measures as `consistency_<measure>`."""
    rows, entries = responses.rows, []

    def add(metric: str, dataset: str, estimate: Estimate | None, questions: int) -> None:
        if estimate is not None:
            figure = Figure(metric, dataset, name, estimate.mean, "ours")
            entries.append(Entry(figure, False, questions, estimate.low, estimate.high))

    places = [_dataset(row) for row in rows]
    parts = [(level, None) for level in LEVELS] + [(LEVELS[-1], domain) for domain in DOMAINS]
    for level, domain in parts:
        mask_N = np.array([place == (level, domain or place[1]) for place in places], dtype=bool)
        name_of = f"{SEED_BENCH_R1}/{level}" + (f"/{domain}" if domain else "")
        add("accuracy", name_of, mean_score(responses, parser, mask_N, how), _questions(responses, mask_N))
    seed_N = np.array([level in LEVELS for level, _ in places], dtype=bool)
    if seed_N.any():
        for measure in responses.measures:
            found = consistency(responses, measure, seed_N, how)
            add(f"{_CONSISTENCY}_{measure}", SEED_BENCH_R1, found.mean, found.known)
    for benchmark in GENERAL:
        mask_N = np.array([benchmark_of(row.dataset) == benchmark for row in rows], dtype=bool)
        add("accuracy", benchmark, mean_score(responses, parser, mask_N, how), _questions(responses, mask_N))
    vsi = vsi_bench_score(responses, how)
    if vsi is not None:
        add(TYPE_MEAN, "vsibench", vsi.overall, sum(questions for questions, _ in vsi.types.values()))
    return entries


def _dataset(row: Row) -> tuple[str | None, str | None]:
    """(level, domain) of SEED-Bench-R1; the data call the domains "Daily life", "Hobbies", ..."""
    benchmark, _, level = row.dataset.partition("/")
    if benchmark != SEED_BENCH_R1:
        return None, None
    said = row.tags.get("domain", "").strip().casefold()
    return level, next((domain for domain in DOMAINS if said.startswith(domain[:4])), None)


def _questions(responses: Responses, mask_N: np.ndarray) -> int:
    return len(np.unique(responses.question_N[mask_N]))


def published_tables(entries: Sequence[Entry]) -> Iterator[Table]:
    """A table for each of the paper's two that some run has a number for."""
    seed = [entry for entry in entries if entry.figure.dataset.partition("/")[0] == SEED_BENCH_R1]
    general = [entry for entry in entries if entry.figure.dataset in GENERAL]
    if any(not entry.published for entry in seed):
        yield _seed_table(seed)
    if any(not entry.published for entry in general):
        yield _general_table(general)


def _seed_table(entries: Sequence[Entry]) -> Table:
    measures = sorted({e.figure.metric for e in entries if e.figure.metric.startswith(f"{_CONSISTENCY}_")})
    judged = [_CONSISTENCY] if any(e.figure.metric == _CONSISTENCY for e in entries) else []
    columns = ["", *LEVELS[:-1], f"{LEVELS[-1]} ({' / '.join(DOMAINS)})", *judged, *measures, "from"]
    rows = []
    for method, published, found in _methods(entries):
        l3 = f"{SEED_BENCH_R1}/{LEVELS[-1]}"
        domains = [_percent(found.get(("accuracy", f"{l3}/{domain}"))) for domain in DOMAINS]
        whole = _percent(found.get(("accuracy", l3)))
        row: list[Cell] = [method, *(_value(found.get(("accuracy", f"{SEED_BENCH_R1}/{x}"))) for x in LEVELS[:-1])]
        row.append(whole if set(domains) == {"-"} else f"{whole} ({' / '.join(domains)})")
        row += [_value(found.get((metric, SEED_BENCH_R1))) for metric in (*judged, *measures)]
        rows.append([*row, _origin(published)])
    notes = list(_counts(entries))
    if judged:
        notes.append(
            "consistency: judged by GPT-4.1, prompt and sample unpublished; ours beside it is another measure."
        )
    return Table("SEED-Bench-R1", columns, rows, notes)


def _general_table(entries: Sequence[Entry]) -> Table:
    typed = any(entry.figure.metric == TYPE_MEAN for entry in entries)
    columns = ["", *GENERAL.values(), *(["VSI-Bench, mean of its types"] if typed else []), "from"]
    rows = []
    for method, published, found in _methods(entries):
        row: list[Cell] = [method, *(_value(found.get(("accuracy", benchmark))) for benchmark in GENERAL)]
        row += [_value(found.get((TYPE_MEAN, "vsibench")))] if typed else []
        rows.append([*row, _origin(published)])
    return Table("General video", columns, rows, list(_counts(entries)))


def _methods(entries: Sequence[Entry]) -> Iterator[tuple[str, bool, dict[tuple[str, str], Entry]]]:
    """(method, is it published, its entries), published ones first, each in its order."""
    by_method: dict[tuple[bool, str], dict[tuple[str, str], Entry]] = {}
    for entry in sorted(entries, key=lambda entry: not entry.published):
        key = (entry.published, entry.figure.method)
        by_method.setdefault(key, {})[entry.figure.metric, entry.figure.dataset] = entry
    for (published, method), found in by_method.items():
        yield method, published, found


def _counts(entries: Sequence[Entry]) -> Iterator[str]:
    """How many questions stand behind our numbers, and whether that is the whole benchmark."""
    for method, published, found in _methods(entries):
        if published:
            continue
        told = []
        for (metric, dataset), entry in found.items():
            if metric == "accuracy" and dataset in QUESTIONS:
                whole = QUESTIONS[dataset]
                told.append(f"{dataset} {entry.questions}" + ("" if entry.questions == whole else f" of {whole}"))
        yield f"questions of {method}: {', '.join(told)}"


def _value(entry: Entry | None) -> float | None:
    return None if entry is None else entry.figure.value


def _percent(entry: Entry | None) -> str:
    return "-" if entry is None else f"{100 * entry.figure.value:.1f}"


def _origin(published: bool) -> str:
    return "the paper" if published else "ours"
