"""Groups stay together unless a budget or equal shares forbid it, and no row is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verl_care.packing.batching import Part, cut_into, micro_batches_of, order_by_groups, parts_within

rows = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 30)), min_size=1, max_size=24)
PROMPT = 10


def test_equal_groups_are_never_cut():
    # costs 10 + 2 * 5 = 20, 10 + 2 * 4 = 18, 10 + 2 * 3 = 16, 10 + 2 * 1 = 12: the first two go to different ranks, the
    # third to the rank that has 18, the fourth to the other one
    groups, responses = list("aabbccdd"), [5, 5, 4, 4, 3, 3, 1, 1]
    assert order_by_groups(groups, [PROMPT] * 8, responses, ranks=2) == [[0, 1, 6, 7], [2, 3, 4, 5]]


def test_interleaved_rows_come_together():
    assert order_by_groups(list("abab"), [PROMPT] * 4, [1, 2, 1, 2], ranks=2) == [[1, 3], [0, 2]]


def test_a_group_that_fits_nowhere_fills_what_is_left():
    # three groups of two rows for two ranks of three
    shares = order_by_groups(list("aabbcc"), [PROMPT] * 6, [3, 3, 2, 2, 1, 1], ranks=2)
    assert shares == [[0, 1, 4], [2, 3, 5]]


@given(rows=rows, ranks=st.integers(1, 4))
def test_every_rank_gets_as_many_rows(rows, ranks):
    rows = rows * ranks
    shares = order_by_groups([g for g, _ in rows], [PROMPT] * len(rows), [r for _, r in rows], ranks)
    assert sorted(row for share in shares for row in share) == list(range(len(rows)))
    assert {len(share) for share in shares} == {len(rows) // ranks}


def test_a_group_above_the_budget_is_cut():
    # 10 + 5 + 5 = 20 is within the budget, a third response is not; the prompt is then computed again
    parts = parts_within([PROMPT] * 4, [5, 5, 5, 1], list("aaab"), budget=20)
    assert parts == [Part((0, 1), 20), Part((2,), 15), Part((3,), 11)]


def test_micro_batches_hold_whole_parts():
    parts = [Part((0, 1), 20), Part((2,), 15), Part((3,), 11), Part((4,), 9)]
    assert micro_batches_of(parts, budget=26) == [[0, 1], [2, 3], [4]]
    assert micro_batches_of(parts, budget=55) == [[0, 1, 2, 3, 4]]


def test_one_response_above_the_budget_names_the_key():
    with pytest.raises(
        ValueError, match=r"10 tokens with its response of 11 is more than the 20.*ppo_max_token_len_per"
    ):
        parts_within([PROMPT], [11], ["a"], budget=20)


@given(rows=rows, budget=st.integers(PROMPT + 30, 200), more=st.integers(0, 24))
def test_no_row_is_lost_and_no_budget_exceeded(rows, budget, more):
    groups, responses = [g for g, _ in rows], [r for _, r in rows]
    batches = micro_batches_of(parts_within([PROMPT] * len(rows), responses, groups, budget), budget)
    batches = cut_into(batches, min(len(rows), len(batches) + more))
    assert sorted(row for batch in batches for row in batch) == list(range(len(rows)))
    for batch in batches:
        assert batch
        tokens = PROMPT * len({groups[row] for row in batch}) + sum(responses[row] for row in batch)
        assert tokens <= budget


def test_as_many_micro_batches_as_another_rank():
    assert sorted(cut_into([[0, 1, 2, 3], [4]], 3)) == [[0, 1], [2, 3], [4]]
    with pytest.raises(ValueError, match="3 micro-batches are wanted of 2 rows"):
        cut_into([[0], [1]], 3)
