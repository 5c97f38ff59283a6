"""Rows of an evaluation, made by hand."""

from __future__ import annotations

from typing import Any

from verl_care.evaluation.rows import Key, Measured, Row
from verl_care.evaluation.scoring.responses import Responses, collect
from verl_care.evaluation.scoring.rules import Rules

OPTIONS = ("A. open drawer", "B. grab knife", "C. wash onion", "D. close door")


def answered(text: str) -> str:
    return f"<think>so</think>\n<answer>{text}</answer>"


def a_row(id: str, response: str | None, truth: str = "A", **changed: Any) -> Row:
    """A multiple choice of SEED-Bench-R1's first level; a number is a question without options."""
    kind = changed.get("problem_type", "multiple choice")
    made: dict[str, Any] = {
        "dataset": "seed_bench_r1/L1",
        "id": id,
        "sample": 0,
        "problem_type": kind,
        "ground_truth": truth,
        "question": "What next?",
        "options": OPTIONS if kind == "multiple choice" else (),
        "response": response,
        "finish": None if response is None else "stop",
        "response_tokens": None if response is None else 9,
        "failure": "media: damaged" if response is None else None,
    }
    return Row(**{**made, **changed})


def scored(*rows: Row, rules: Rules | None = None, **measures: dict[Key, float | None]) -> Responses:
    by_name = {name: {k: Measured(k, v) for k, v in values.items()} for name, values in measures.items()}
    return collect(rows, by_name, rules or Rules())
