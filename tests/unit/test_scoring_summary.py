"""What is said of groups of questions and of two runs: hand-made dumps with their numbers worked out."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from tests.unit.evaluated import a_row, answered, scored
from verl_care.evaluation.published import figures
from verl_care.evaluation.rows import Key, Row
from verl_care.evaluation.scoring.comparison import compare
from verl_care.evaluation.scoring.intervals import Bootstrap
from verl_care.evaluation.scoring.published_layout import Entry, entries_of, published_tables
from verl_care.evaluation.scoring.rules import Rules
from verl_care.evaluation.scoring.summary import Group, Summary, failures_of, summaries, vsi_bench_score
from verl_care.evaluation.scoring.tables import as_text

HOW = Bootstrap(resamples=200)
L1 = "seed_bench_r1/L1"
DUMP = [
    a_row("0", answered("A")),  # right
    a_row("1", answered("A.")),  # right, in the wrong format
    a_row("2", "<think>so</think>\nThe answer is A."),  # right without a block
    a_row("3", answered("B")),  # wrong
    a_row("4", "<think>so, perhaps", finish="length"),  # cut off
    a_row("5", "<think>so</think>\n<answer>A</answer>", finish="length"),  # cut off, yet whole
    a_row("6", "<answer>A</answer>"),  # right without the format
    a_row("7", None),
    a_row("8", None, failure="generation: time"),
    a_row("9", answered("knife"), "knife", problem_type="free-form", dataset="zoo/free-form"),
]


def of(found: list[Summary], by: str = "", value: str = "", benchmark: str = L1) -> Summary:
    return next(summary for summary in found if summary.group == Group(benchmark, by, value))


def test_a_dump_by_hand():
    summary = of(summaries(scored(*DUMP), HOW))
    assert (summary.questions, summary.responses, summary.samples) == (9, 9, None)
    assert summary.accuracy["exact"].mean == pytest.approx(3 / 9)  # 0, 5, 6
    assert summary.accuracy["lenient"].mean == pytest.approx(5 / 9)  # and 1, 2
    assert (summary.missing, summary.cut, summary.no_block) == (2, 2, 2)  # 7 8; 4 5; 2 4
    assert summary.no_lenient_answer == 1  # 4
    assert summary.format_rate == pytest.approx(4 / 9)  # 0, 1, 3, 5
    assert summary.not_scored == 0
    unscored = of(summaries(scored(*DUMP), HOW), benchmark="zoo")
    assert unscored.accuracy == {"exact": None, "lenient": None}
    assert unscored.not_scored == 1


def test_a_missing_response_is_named_by_its_reason():
    assert failures_of([*DUMP, a_row("x", None)]) == [("media: damaged", 2), ("generation: time", 1)]


def test_parts_of_a_benchmark():
    rows = [
        *(a_row(str(n), answered("AB"[n % 2]), dataset="seed_bench_r1/L3", tags={"domain": "Work"}) for n in range(4)),
        a_row("h", answered("A"), dataset="seed_bench_r1/L3", tags={"domain": "Hobbies"}),
        a_row("n", answered("B"), dataset="seed_bench_r1/L3"),
        a_row("m", answered("A"), dataset="mvbench/multiple_choice", tags={"domain": "Work"}),
    ]
    found = summaries(scored(*rows), HOW)
    level = "seed_bench_r1/L3"
    assert of(found, benchmark=level).accuracy["exact"].mean == pytest.approx(3 / 6)
    assert of(found, "domain", "Work", level).accuracy["exact"].mean == pytest.approx(2 / 4)
    assert of(found, "domain", "Hobbies", level).questions == 1
    assert of(found, "domain", "(none)", level).accuracy["exact"].mean == 0
    assert [summary.group for summary in found if summary.group.benchmark == "mvbench"] == [Group("mvbench", "", "")]


def test_several_samples():
    rows = [
        replace(a_row(id, answered(letter)), sample=place)
        for id, letters in {"0": "AAB", "1": "BBA", "2": "CC"}.items()
        for place, letter in enumerate(letters)
    ]
    summary = of(summaries(scored(*rows), HOW))
    assert (summary.questions, summary.responses) == (3, 8)
    assert summary.accuracy["exact"].mean == pytest.approx((2 / 3 + 1 / 3 + 0) / 3)  # mean@k: a question counts once
    samples = summary.samples
    assert (samples.k, samples.fewer) == (3, 1)
    assert samples.majority["exact"].mean == pytest.approx(1 / 3)
    assert list(samples.best) == ["1", "2", "3"]
    # pass@2: 1 - C(1,2)/C(3,2) = 1; 1 - C(2,2)/3 = 2/3; 0
    assert samples.best["2"]["exact"].mean == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert samples.best["3"]["exact"].mean == pytest.approx(1.0)  # of the two questions that have three


def test_consistency():
    rows = [a_row(str(n), answered("AAABB"[n])) for n in range(5)]
    # Right and known 1, 0, ?; wrong 1, not looked at.
    judged: dict[Key, float | None] = {rows[n].key: value for n, value in enumerate((1.0, 0.0, None, 1.0))}
    likelihood: dict[Key, float | None] = {rows[0].key: 0.5, rows[1].key: 0.2}
    found = of(summaries(scored(*rows, judge=judged, likelihood=likelihood), HOW)).consistency
    judge = found["judge"]
    assert (judge.known, judge.unknown, judge.not_measured) == (3, 1, 1)
    assert judge.mean.mean == pytest.approx(2 / 3)
    assert judge.right_and_consistent["exact"].mean == pytest.approx(1 / 4)  # the first, of four looked at
    assert found["likelihood"].mean.mean == pytest.approx(0.35)
    assert found["likelihood"].right_and_consistent == {}  # no yes or no
    assert found["likelihood"].not_measured == 3


def test_a_measure_that_knows_nothing():
    row = a_row("0", answered("A"))
    found = of(summaries(scored(row, judge={row.key: None}), HOW)).consistency["judge"]
    assert (found.mean, found.known, found.unknown) == (None, 0, 1)


def test_the_order_of_rows_is_nothing():
    rows = [a_row(str(n), answered("AB"[n % 3 == 0]), tags={"domain": "xy"[n % 2]}) for n in range(40)]
    judge: dict[Key, float | None] = {row.key: float(n % 2) for n, row in enumerate(rows)}
    expected = summaries(scored(*rows, judge=judge), HOW)
    random.Random(0).shuffle(rows)
    assert summaries(scored(*rows, judge=judge), HOW) == expected


def test_vsi_bench():
    def row(id: str, response: str, truth: str, kind: str) -> Row:
        choice = truth in "AB"
        return a_row(
            id,
            answered(response),
            truth,
            problem_type="multiple choice" if choice else "regression",
            dataset=f"vsibench/{'multiple_choice' if choice else 'regression'}",
            tags={"task_type": kind},
        )

    rows = [
        row("0", "3", "2", "object_counting"),  # .1 by VSI-Bench, 0 as released
        row("1", "2", "2", "object_counting"),  # 1
        row("2", "A", "A", "object_rel_direction_easy"),  # 1
        row("3", "A", "A", "object_rel_direction_hard"),
        row("4", "A", "B", "object_rel_direction_hard"),  # hard: .5, so directions: .75
    ]
    found = vsi_bench_score(scored(*rows), HOW)
    assert found.overall.mean == pytest.approx((0.55 + 0.75) / 2)
    assert found.types["object_counting"] == (2, pytest.approx(0.55))
    unknown = [*rows, a_row("5", answered("A"), dataset="vsibench/multiple_choice")]
    assert vsi_bench_score(scored(*unknown), HOW).overall is None
    assert vsi_bench_score(scored(*unknown), HOW).unknown_type == 1
    assert vsi_bench_score(scored(*DUMP), HOW) is None


# Two runs


def test_two_runs():
    said_a, said_b = "AAABBBBB", "AAAAAABB"
    a = [a_row(str(n), answered(letter)) for n, letter in enumerate(said_a)]
    b = [a_row(str(n), answered(letter)) for n, letter in enumerate(said_b)]
    a.append(a_row("only a", answered("A")))
    b += [a_row("only b", answered("A")), a_row("changed", answered("A"), "A")]
    a.append(a_row("changed", answered("A"), "B"))
    found = compare(scored(*a), scored(*b), HOW)
    assert (found.only_a, found.only_b, found.differ) == ([(L1, "only a")], [(L1, "only b")], [(L1, "changed")])
    (group,) = found.groups
    paired = group.scores["exact"]
    assert (group.questions, paired.questions) == (8, 8)
    assert (paired.mean_a, paired.mean_b, paired.difference.mean) == (3 / 8, 6 / 8, 3 / 8)
    assert (paired.wins, paired.losses, paired.mcnemar) == (3, 0, True)
    assert paired.p_value == pytest.approx(2 / 8)  # 2 * (1/2)^3
    assert paired.difference.low >= 0  # no resample of pairs can lose


def test_a_run_is_as_good_as_itself():
    run = scored(*DUMP)
    paired = compare(run, run, HOW).groups[0].scores["lenient"]
    assert (paired.difference.mean, paired.difference.low, paired.difference.high, paired.p_value) == (0, 0, 0, 1)


def test_what_no_rule_scores_is_not_compared():
    run = scored(*DUMP)
    found = compare(run, run, HOW)
    assert found.not_scored == 1
    graded = scored(*DUMP, rules=Rules(open_answers="graded"))
    assert compare(graded, graded, HOW).not_scored == 0


def test_fractions_are_no_mcnemar():
    a = scored(a_row("0", answered("4"), "4", problem_type="regression"))
    b = scored(a_row("0", answered("5"), "4", problem_type="regression"))
    paired = compare(a, b, HOW).groups[0].scores["exact"]
    assert (paired.mean_b, paired.losses, paired.mcnemar) == (0.5, 1, False)


def test_measures_are_compared_where_both_know():
    rows = [a_row(str(n), answered("A")) for n in range(3)]
    a = scored(*rows, judge={rows[0].key: 0.0, rows[1].key: None, rows[2].key: 1.0}, other={rows[0].key: 1.0})
    b = scored(*rows, judge={rows[0].key: 1.0, rows[1].key: 1.0, rows[2].key: 1.0})
    (group,) = compare(a, b, HOW).groups
    assert list(group.measures) == ["judge"]
    judge = group.measures["judge"]
    assert (judge.questions, judge.wins, judge.losses, judge.mean_a, judge.mean_b) == (2, 1, 0, 0.5, 1.0)


# The paper's tables


def test_published_figures():
    found = {(f.metric, f.dataset, f.method): f.value for f in figures()}
    assert found["accuracy", L1, "CARE"] == 0.57
    assert found["accuracy", "seed_bench_r1/L3/work", "GRPO"] == 0.394
    assert found["consistency", "seed_bench_r1", "RefGen"] == 0.864
    assert found["accuracy", "videomme", "CARE on Video-R1 data"] == 0.596
    assert len(found) == len(figures()) == 10 * 3 + 4 * 4 + 8 + 4 * 6  # levels, domains, consistency, general


def test_the_papers_layout():
    rows = [
        *(a_row(str(n), answered("AB"[n % 2]), dataset=f"seed_bench_r1/L{n % 3 + 1}") for n in range(6)),
        a_row("d", answered("A"), dataset="seed_bench_r1/L3", tags={"domain": "Daily life"}),
        a_row("v", answered("2"), "2", problem_type="regression", dataset="vsibench/regression"),
    ]
    judge: dict[Key, float | None] = {rows[0].key: 1.0, rows[1].key: 0.0, rows[-1].key: 1.0}
    ours = entries_of("mine", scored(*rows, judge=judge), "exact", HOW)
    values = {(e.figure.metric, e.figure.dataset): (e.figure.value, e.questions) for e in ours}
    assert values == {
        ("accuracy", "seed_bench_r1/L1"): (0.5, 2),
        ("accuracy", "seed_bench_r1/L2"): (0.5, 2),
        ("accuracy", "seed_bench_r1/L3"): (pytest.approx(2 / 3), 3),
        ("accuracy", "seed_bench_r1/L3/daily"): (1.0, 1),
        ("consistency_judge", "seed_bench_r1"): (0.5, 2),
        ("accuracy", "vsibench"): (1.0, 1),
    }
    text = as_text(published_tables([*(Entry(figure, True) for figure in figures()), *ours]))
    assert "53.4 (57.6 / 51.2 / 57.4 / 48.5)" in text
    assert "66.7 (100.0 / - / - / -)" in text
    assert "seed_bench_r1/L1 2 of 2432" in text
    assert [line.split()[0] for line in text.splitlines() if line.endswith("ours")] == ["mine", "mine"]
    assert len(list(published_tables(ours[:1]))) == 1  # nothing of general video
