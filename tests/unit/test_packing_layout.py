"""Which token goes where, worked out by hand on the example of `verl_care/packing/layout.py`."""

import pytest
import torch

from tests.unit.masked_attention import mask_of
from verl_care.packing.layout import Span, pack, scored

# rows 0 and 1 are of one group, row 2 of another
#   flat    0  1  2  3  4    5  6  7  8    9  10 11
#           p0 p1 p2 a0 a1 | p0 p1 p2 b0 | q0 q1 c0
#   packed  p0 p1 p2 a0 a1 b0 | q0 q1 c0
#           0  1  2  3  4  5    6  7  8
PROMPTS, RESPONSES, GROUPS = [3, 3, 2], [2, 1, 1], ["p", "p", "q"]


@pytest.fixture
def layout():
    return pack(PROMPTS, RESPONSES, GROUPS)


def test_a_shared_prompt_is_there_once(layout):
    assert layout.flat_T.tolist() == [0, 1, 2, 3, 4, 8, 9, 10, 11]
    assert layout.packed_F.tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 5, 6, 7, 8]


def test_groups_and_their_stretches(layout):
    first, second = layout.groups
    assert (first.rows, second.rows) == ((0, 1), (2,))
    assert (first.prompt, first.responses) == (Span(0, 3), (Span(3, 5), Span(5, 6)))
    assert (second.prompt, second.responses) == (Span(6, 8), (Span(8, 9),))
    assert first.answers == Span(3, 6)
    assert layout.segments == [Span(0, 3), Span(3, 5), Span(5, 6), Span(6, 8), Span(8, 9)]


def test_who_sees_whom(layout):
    expected = [
        # p0 p1 p2 a0 a1 b0 q0 q1 c0
        "1 0 0 0 0 0 0 0 0",  # p0
        "1 1 0 0 0 0 0 0 0",
        "1 1 1 0 0 0 0 0 0",
        "1 1 1 1 0 0 0 0 0",  # a0
        "1 1 1 1 1 0 0 0 0",
        "1 1 1 0 0 1 0 0 0",  # b0 sees the prompt, not a0 and a1
        "0 0 0 0 0 0 1 0 0",  # q0
        "0 0 0 0 0 0 1 1 0",
        "0 0 0 0 0 0 1 1 1",  # c0
    ]
    assert mask_of(layout).int().tolist() == [[int(cell) for cell in row.split()] for row in expected]


def test_a_response_is_predicted_from_the_prompts_last_token_on(layout):
    places = scored(layout)
    assert places.label_S.tolist() == [3, 4, 8, 11]  # a0 a1 b0 c0
    assert places.hidden_S.tolist() == [2, 3, 2, 7]  # p2 a0 p2 q1
    assert places.place_S.tolist() == [2, 3, 7, 10]  # one before each, in verl's flat batch
    assert places.offsets.tolist() == [0, 2, 3, 4]
    assert places.row_S.tolist() == [0, 0, 1, 2]


def test_only_the_tokens_wanted(layout):
    wanted = [torch.tensor([False, True]), torch.tensor([False]), torch.tensor([True])]
    places = scored(layout, wanted)
    assert places.label_S.tolist() == [4, 11]  # a1 c0
    assert places.hidden_S.tolist() == [3, 7]
    assert places.offsets.tolist() == [0, 1, 1, 2]
    assert places.row_S.tolist() == [0, 2]


def test_rows_of_a_group_need_not_be_neighbours():
    # a | q | b with prompts of 1 and 2: flat p0 a0 | q0 q1 c0 | p0 b0 -> packed p0 a0 b0 q0 q1 c0
    layout = pack([1, 2, 1], [1, 1, 1], ["p", "q", "p"])
    assert layout.flat_T.tolist() == [0, 1, 6, 2, 3, 4]
    assert layout.packed_F.tolist() == [0, 1, 3, 4, 5, 0, 2]
    assert [group.rows for group in layout.groups] == [(0, 2), (1,)]


def test_a_group_of_one_is_packed_as_it_was():
    layout = pack([2], [3], ["p"])
    assert layout.flat_T.tolist() == layout.packed_F.tolist() == [0, 1, 2, 3, 4]
    assert mask_of(layout).tolist() == torch.ones(5, 5).tril().bool().tolist()


def test_an_empty_response():
    layout = pack([2, 2], [0, 1], ["p", "p"])
    assert layout.flat_T.tolist() == [0, 1, 4]
    assert scored(layout).offsets.tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("prompts", "responses", "groups", "reason"),
    [
        ([3, 2], [1, 1], ["p", "p"], r"prompts of rows \[0, 1\] are \[2, 3\] tokens long"),
        ([0], [1], ["p"], r"prompts of rows \[0\] are \[0\]"),
        ([1, 1], [1], ["p", "q"], "2 prompts, 1 responses, 2 groups"),
    ],
)
def test_what_is_no_batch(prompts, responses, groups, reason):
    with pytest.raises(ValueError, match=reason):
        pack(prompts, responses, groups)
