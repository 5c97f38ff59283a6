"""Consistency without a judge: does the reasoning of a miniature response support the letter it gives?

    <think> seen peel, bake. so heat </think>
    <answer>B</answer>

The conclusion is what follows the last "so" in the reasoning; it supports the letter whose option it is, word for word.
The letter is that of the first closed answer, as the reward of training reads it; what stands behind it is not read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from data_prep.miniature_world import LETTERS
from verl_care.algorithm.spans import OPEN, answer_block

REASONING = re.compile(r"\s*<think>(.*?)</think>\s*", re.DOTALL)
CONCLUSION = re.compile(r"(?:.*\s)?so\s+(.+)", re.DOTALL)


def respond(seen: Sequence[str], conclusion: str, letter: str) -> str:
    """The grammar, written: what the warm start teaches."""
    return ending_in(seen, f" so {conclusion}", letter)


def ending_in(seen: Sequence[str], ending: str, letter: str) -> str:
    """The same with anything behind what was seen."""
    return f"<think> seen {', '.join(seen) or 'nothing'}.{ending} </think>\n<answer>{letter}</answer>"


def parse(response: str) -> tuple[str, str] | None:
    """(conclusion, letter), or None where the response is not in the grammar."""
    reasoning, block = REASONING.match(response), answer_block(response)
    if reasoning is None or block is None or reasoning.end() != block[0] - len(OPEN):
        return None
    concluded = CONCLUSION.fullmatch(reasoning[1].strip())
    return (concluded[1].strip(), response[slice(*block)].strip()) if concluded else None


def supports(response: str, options: Sequence[str]) -> bool | None:
    """Whether the conclusion is the answered letter's option; None where the response is not in the grammar."""
    found = parse(response)
    if found is None:
        return None
    conclusion, letter = found
    return any(conclusion == option for name, option in zip(LETTERS, options, strict=False) if name == letter)
