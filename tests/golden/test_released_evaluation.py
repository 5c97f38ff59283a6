"""The released evaluation's numbers, met on the same dumps.

The reference below states again, independently and in torch as there, what `src/eval_bench.py` of
TencentARC/GRPO-CARE b0628fc computes from responses: the reward of one, which batches it loses, its three totals.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.evaluated import a_row, answered, scored
from verl_care.evaluation.rows import Row
from verl_care.evaluation.scoring.relative_accuracy import mean_relative_accuracy
from verl_care.evaluation.scoring.rules import AS_RELEASED, Rules, read_response
from verl_care.evaluation.scoring.summary import groups_of, released_totals

BLOCK = re.compile(r"<answer>\s*(.*?)\s*</answer>", re.DOTALL)
THRESHOLDS = torch.arange(0.5, 0.95 + 0.025, 0.05, dtype=torch.float32)


def released_mra(answer: float, truth: float) -> float:
    given, wanted = torch.tensor(answer, dtype=torch.float32), torch.tensor(truth, dtype=torch.float32)
    within = torch.abs(given - wanted) / (torch.abs(wanted) + 1e-8) < 1 - THRESHOLDS
    return within.float().mean().item()


def released_reward(row: Row) -> float:
    found = BLOCK.search(row.response)
    answer = (found[1].strip() if found else "") or row.response
    if row.problem_type == "multiple choice":
        return float(answer.strip() == row.ground_truth)
    if row.problem_type not in ("numerical", "regression"):
        return 0.0
    decimal = ["." in text or "," in text for text in (answer, row.ground_truth)]
    if row.problem_type == "numerical" and decimal[0] != decimal[1]:
        return 0.0
    try:
        given, wanted = (float(text.replace(",", "")) for text in (answer, row.ground_truth))
        if row.problem_type == "numerical":
            return float(round(given, 2) == round(wanted, 2))
        return released_mra(given, wanted)
    except (ValueError, OverflowError, RuntimeError):  # there: any exception
        return 0.0


def released_evaluation(rows: Sequence[Row]) -> tuple[float, float, float]:
    """(mean_acc, mean_mra, mean_rewards) of one file's rows in their order; a batch with a failure is skipped."""
    acc, mra = [], []
    for start in range(0, len(rows), 4):
        batch = rows[start : start + 4]
        if all(row.response is not None for row in batch):
            for row in batch:
                (mra if row.problem_type == "regression" else acc).append(released_reward(row))
    rewards = acc + mra
    return sum(acc) / len(acc), sum(mra) / len(mra) if mra else 0.0, sum(rewards) / len(rewards)


CHOICES = [
    *("<answer>A</answer>", "<think>x</think><answer> A </answer>", "A", " A\n"),  # right
    *("<answer>A.</answer>", "<answer>(A)</answer>", "<answer>a</answer>", "<answer>A", "<answer></answer>", "", "x"),
    *(
        "<answer>B</answer><answer>A</answer>",
        "<answer>A</answer><answer>B</answer>",
        "<think>A",
        "<answer>A B</answer>",
    ),
]
NUMBERS = [*("3", "3.0", "3,000", "3000", "3000.004", "2.9949", "-3", "1e3", "x", "", "3 m", "0", "nan", "4e38", "3.")]
DUMP = [a_row(f"c{n:02}", response) for n, response in enumerate(CHOICES)] + [
    a_row(f"{kind}{truth}-{n:02}", response, truth, problem_type=kind)
    for kind in ("numerical", "regression", "OCR", "free-form")
    for truth in ("3", "3.0", "3,000.00", "0")
    for n, response in enumerate([*map(answered, NUMBERS), *NUMBERS])
]


@pytest.mark.parametrize("row", DUMP, ids=lambda row: f"{row.id} {row.response!r}")
def test_every_reward_of_the_dump(row):
    assert read_response(row, AS_RELEASED).exact.score == pytest.approx(released_reward(row), abs=1e-6)


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["<answer>", "</answer>", " ", "\n", "A", "3", ".", ",", "0", "-", "e"])).map("".join),
    st.sampled_from([("multiple choice", "A"), ("numerical", "3"), ("numerical", "3.00"), ("regression", "30")]),
)
def test_every_reward(response, asked):
    kind, truth = asked
    row = a_row("1", response, truth, problem_type=kind)
    assert read_response(row, AS_RELEASED).exact.score == pytest.approx(released_reward(row), abs=1e-6)


@settings(deadline=None)
@given(st.integers(0, 400), st.integers(1, 200), st.sampled_from([1, 10, 100]))
def test_relative_accuracy_to_the_last_bit(answer, truth, scale):
    """Whole numbers and tenths of them lie on thresholds often."""
    ours = mean_relative_accuracy(answer / scale, truth / scale)
    assert ours == pytest.approx(released_mra(answer / scale, truth / scale), abs=1e-6)


def totals(rows: Sequence[Row], rules: Rules) -> tuple[float | None, float, float | None]:
    responses = scored(*rows, rules=rules)
    ((_, mask_N),) = groups_of(responses.rows, ())
    found = released_totals(responses, mask_N)
    return found.mean_acc, found.mean_mra, found.mean_rewards


def test_the_totals_of_a_dump_without_failures():
    assert totals(DUMP, AS_RELEASED) == pytest.approx(released_evaluation(DUMP), abs=1e-6)


def test_four_are_dropped_at_every_error():
    # Batches: [c00 right, c01 right, media, c02 wrong] is lost; [right, wrong, right, right] and [wrong] are left.
    right, wrong = answered("A"), answered("B")
    said = [right, right, None, wrong, right, wrong, right, right, wrong]
    rows = [a_row(f"{n}", response) for n, response in enumerate(said)]
    assert released_evaluation(rows) == (3 / 5, 0.0, 3 / 5)
    assert totals(rows, AS_RELEASED) == (3 / 5, 0.0, 3 / 5)
    assert totals(rows, Rules(failures="drop")) == (5 / 8, 0.0, 5 / 8)
    assert totals(rows, Rules()) == (5 / 9, 0.0, 5 / 9)


def test_batches_follow_the_index_where_rows_have_one():
    # As answered: 4, 0, 1, 2, 3. By index the failure, 0, takes 1, 2 and 3 with it; by order 4, 1 and 2.
    rows = [a_row(f"{n}", None if n == 0 else answered("A")) for n in (4, 0, 1, 2, 3)]
    left = scored(*rows, rules=AS_RELEASED).rows
    assert [row.id for row in left] == ["3"]
    indexed = [a_row(row.id, row.response, tags={"index": row.id}) for row in rows]
    assert [row.id for row in scored(*indexed, rules=AS_RELEASED).rows] == ["4"]


def test_batches_run_across_the_problem_types_of_one_file():
    # vsibench is one file: the failure of a number takes three choices with it.
    rows = [
        a_row("0", None, "3", problem_type="regression", dataset="vsibench/regression"),
        *(a_row(f"{n}", answered("A"), dataset="vsibench/multiple_choice") for n in (1, 2, 3, 4)),
    ]
    assert [row.id for row in scored(*rows, rules=AS_RELEASED).rows] == ["4"]
