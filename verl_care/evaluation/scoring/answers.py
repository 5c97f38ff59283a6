"""What a response answers, read to the letter: as the released evaluation reads it.

Source: `extract_answer` and `reward_fn` in `src/eval_bench.py` of TencentARC/GRPO-CARE b0628fc.
"""

from __future__ import annotations

from verl_care.rewards.grading import extract_answer


def block_answer(response: str) -> str | None:
    """Text of the first closed answer block; None where there is none, or nothing but white space in it."""
    return extract_answer(response) or None


def exact_answer(response: str, whole: bool) -> str | None:
    """`block_answer`; without one the whole response if `whole`, as in the release, so that a bare "B" answers B."""
    return block_answer(response) or (response.strip() or None if whole else None)


def bare_truth(ground_truth: str) -> str:
    """The truth without the tags that data sets may write around it."""
    inside = extract_answer(ground_truth)
    return ground_truth.strip() if inside is None else inside
