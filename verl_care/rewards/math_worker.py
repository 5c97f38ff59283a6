"""The helper process of `math_answer`: `python -m verl_care.rewards.math_worker`."""

from __future__ import annotations

import logging

from math_verify import LatexExtractionConfig, parse, verify
from sympy import Basic, MatrixBase

from verl_care.processes.helper import serve

MEMORY_BYTES = 1 << 30
MOST_LETTERS = 3


def answer(question: dict[str, str]) -> bool:
    """{"read": text}: is it mathematics, of few letters? {"truth": text, "answer": text}: are they equal?"""
    if "read" in question:
        read = [expression for expression in _parsed(question["read"]) if isinstance(expression, Basic | MatrixBase)]
        return any(len(expression.free_symbols) <= MOST_LETTERS for expression in read)
    return verify(_parsed(question["truth"]), _parsed(question["answer"]), timeout_seconds=None)


def _parsed(text: str) -> list:
    return parse(text, extraction_config=[LatexExtractionConfig()], parsing_timeout=None)  # pyright: ignore[reportArgumentType]


if __name__ == "__main__":
    logging.getLogger("math_verify").setLevel(logging.ERROR)  # warns that its time limits are off: ours is on
    answer({"truth": "$1$", "answer": "$1$"})  # compiles its patterns, before time counts
    serve(answer, MEMORY_BYTES)
