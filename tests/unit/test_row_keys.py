"""verl's keys of rows, and what stands in their place in a file that somebody else wrote."""

import pytest

from verl_care.records.row_keys import order_of, prompt_of


@pytest.mark.parametrize(
    ("key", "prompt"),
    [
        ("0a1b_3_0", "0a1b"),
        ("a_b_3_0", "a_b"),
        ("3_0", "3"),
        ("", ""),
        ("_3_0", ""),
        ("no key at all", "no key at all"),
    ],
)
def test_the_prompt_of_a_key(key: str, prompt: str):
    assert prompt_of(key) == prompt


def test_sessions_are_numbers():
    assert sorted(["a_10_0", "a_2_1", "b_0_0", "a_2_0"], key=order_of) == ["a_2_0", "a_2_1", "a_10_0", "b_0_0"]
