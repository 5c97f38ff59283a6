"""Consistency without a judge: does the reasoning of a miniature response support the letter it gives?

    <think> seen peel, bake. so heat </think>
    <answer>B</answer>

The conclusion is what follows the last "so" in the reasoning; it supports the letter whose option it is, word for word.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from data_prep.miniature_world import LETTERS

RESPONSE = re.compile(r"<think>(.*?)</think>\s*<answer>(.*?)</answer>", re.DOTALL)
CONCLUSION = re.compile(r"(?:.*\s)?so\s+(.+)", re.DOTALL)


def respond(seen: Sequence[str], conclusion: str, letter: str) -> str:
    """The grammar, written: what the warm start teaches."""
    return f"<think> seen {', '.join(seen) or 'nothing'}. so {conclusion} </think>\n<answer>{letter}</answer>"


def parse(response: str) -> tuple[str, str] | None:
    """(conclusion, letter), or None where the response is not in the grammar."""
    whole = RESPONSE.fullmatch(response.strip())
    reasoning = CONCLUSION.fullmatch(whole[1].strip()) if whole else None
    if whole is None or reasoning is None:
        return None
    return reasoning[1].strip(), whole[2].strip()


def supports(response: str, options: Sequence[str]) -> bool | None:
    """Whether the conclusion is the answered letter's option; None where the response is not in the grammar."""
    found = parse(response)
    if found is None:
        return None
    conclusion, letter = found
    return any(conclusion == option for name, option in zip(LETTERS, options, strict=False) if name == letter)
