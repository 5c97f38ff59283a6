"""Small payloads, whose every number a test can name."""

from __future__ import annotations

from typing import Any

from verl_care.report.payload import Payload

PIXEL = "data:image/webp;base64,UklGRiIAAABXRUJQVlA4IBYAAAAwAQCdASoBAAEADsD+JaQAA3AAAAAA"
TEXT = "<think>The bowl is clean. So stir.</think>\n<answer>B</answer>"


def response(**changes: Any) -> dict[str, Any]:
    made = {
        "text": TEXT,
        "cut": 0,
        "length": 20,
        "finish": "stop",
        "accuracy": 1.0,
        "format": 1.0,
        "likelihood": 0.9,
        "selected": True,
        "bonus": 0.5,
        "reward": 2.5,
        "advantage": 0.7,
        "answer": {"start": TEXT.index("B</answer"), "stop": TEXT.index("B</answer") + 1},
        "answer_tokens": [{"text": ">B", "log_prob": -0.105}],
        "measures": {"contradiction": 1.0},
    }
    return made | changes


def group(responses: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    made = {"run": 0, "step": 1, "question": 0, "threshold": 0.8, "split": "train", "responses": responses}
    return made | changes


def question(number: int = 0, **changes: Any) -> dict[str, Any]:
    made = {
        "key": f"kitchen/{number}",
        "data_source": "kitchen",
        "id": str(number),
        "problem_type": "multiple choice",
        "question": "What next?",
        "prompt": "<video>What next?\nOptions:\nA. peel\nB. stir",
        "options": ["A. peel", "B. stir"],
        "truth": "B",
        "tags": {},
        "clips": [{"path": "a.mp4", "frames": [{"image": 0, "time": 0.25}], "reason": None}],
        "images": [],
    }
    return made | changes


def run(name: str = "care", **changes: Any) -> dict[str, Any]:
    metrics = {"care/accuracy": {"steps": [1, 2], "values": [0.25, 0.75]}}
    made = {"name": name, "folder": f"runs/{name}", "config": {"care.bonus": "hard"}, "metrics": metrics}
    return made | {"validation": []} | changes


def payload(groups: list[dict[str, Any]], **changes: Any) -> Payload:
    made: Any = {
        "schema": 1,
        "title": "care",
        "made": "2026-11-21T14:00:00Z",
        "live": False,
        "runs": [run()],
        "published": [],
        "questions": [question()],
        "groups": groups,
        "images": [PIXEL],
        "notes": [],
    }
    return made | changes
