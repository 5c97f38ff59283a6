"""Rows and media of Video-R1, made up in its layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

OPTIONS = ["A. a red cup", "B. a blue cup", "C. a plate", "D. nothing"]


def row(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "problem_id": number,
        "problem": "What does the person pick up?",
        "data_type": "video",
        "problem_type": "multiple choice",
        "options": OPTIONS,
        "process": "",
        "solution": "<answer>B</answer>",
        "path": "./NeXT-QA/clip.mp4",
        "data_source": "NeXT-QA",
    } | changes


def open_row(number: int, problem_type: str, answer: str, **changes: Any) -> dict[str, Any]:
    return row(number, problem_type=problem_type, options=[], solution=f"<answer>{answer}</answer>", **changes)


def media_root(folder: Path) -> Path:
    root = folder / "data"
    for file in ("NeXT-QA/clip.mp4", "Chart/chart.png", "Evaluation/TVQA/scene/00001.jpg", "Evaluation/clip.mp4"):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    (root / "Evaluation" / "TVQA" / "empty").mkdir()
    return root


def write(root: Path, name: str, *rows: Any) -> Path:
    path = root / name
    path.write_text(json.dumps(rows, indent=2))
    return path
