"""What the YAML files of this folder name: the questions of a level, what the model is shown, and its scores.

SEED_BENCH_R1_ROOT     the benchmark's folder, with annotations/, videos/ and images/
SEED_BENCH_R1_PROMPT   released (default): the wording of the release's evaluation; plain: question and options alone
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from PIL import Image

from data_prep.common.media import MediaRoot
from data_prep.seed_bench_r1 import PROBLEM_TYPE
from data_prep.seed_bench_schema import check_row
from verl_care.data.prompts import prompt_text, with_options
from verl_care.rewards.grading import extract_answer, grade, has_format

WORDINGS = {"released": "released_evaluation", "plain": "plain"}
SOURCES = {"source_L1": "L1", "source_L2": "L2", "source_L3": "L3"}
DOMAINS = ("daily", "hobbies", "recreation", "work")
"""Of L3, by the first word of `domain`, as the paper's table names them."""


def _root() -> Path:
    root = os.environ.get("SEED_BENCH_R1_ROOT")
    if not root:
        raise ValueError("SEED_BENCH_R1_ROOT is not set: name the folder with annotations/, videos/ and images/")
    return Path(root).absolute()


def _wording() -> Any:
    asked = os.environ.get("SEED_BENCH_R1_PROMPT", "released")
    if asked not in WORDINGS:
        raise ValueError(f"SEED_BENCH_R1_PROMPT={asked!r}: known are {', '.join(WORDINGS)}")
    return WORDINGS[asked]


def _source(level: str) -> dict[str, Any]:
    file = _root() / "annotations" / f"validation_{level}.jsonl"
    if not file.is_file():
        raise ValueError(f"SEED_BENCH_R1_ROOT={_root()} has no {file.relative_to(_root())}")
    return {"data_files": {"test": str(file)}}


def __getattr__(name: str) -> dict[str, Any]:
    """source_L1, source_L2, source_L3: `dataset_kwargs` of a level. Its annotations are read as lines of text, so that
    nobody guesses their types. Looked up when a YAML file names one: the other levels need not be there."""
    if name not in SOURCES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _source(SOURCES[name])


def questions(lines: Dataset) -> Dataset:
    """The questions of an annotation file.

    Raises:
        SystemExit: for a row that our converter would leave out too, a missing clip or image among them. It would have
            to count as wrong, and better stops the run at once. Anything else lmms-eval tries five times, and then
            names no cause.
    """
    media, wording = MediaRoot(_root()), _wording()
    found = []
    for number, line in enumerate(lines["text"], start=1):
        try:
            found.append(question(json.loads(line), media, wording))
        except ValueError as error:
            raise SystemExit(f"line {number} of SEED-Bench-R1's annotations: {error}") from error
    return Dataset.from_list(found)


def question(row: Mapping[str, Any], media: MediaRoot, wording: Any) -> dict[str, Any]:
    """One annotation, checked as `data_prep.seed_bench_r1` checks it."""
    example = check_row(row, media, seed=0, training=False)
    return {
        "id": example.id,
        "prompt": prompt_text(with_options(example.question, example.options), PROBLEM_TYPE, wording),
        "answer": example.letter,
        "video": example.video or "",  # none where nothing has been done yet
        "image": example.image,
        "domain": example.domain or "",
        "scenario": example.scenario or "",
    }


def messages(doc: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For chat models: the clip where there is progress, then the current observation, then the text."""
    clip = [{"type": "video", "url": doc["video"]}] if doc["video"] else []
    parts = [*clip, {"type": "image", "url": doc["image"]}, {"type": "text", "text": doc["prompt"]}]
    return [{"role": "user", "content": parts}]


def visuals(doc: Mapping[str, Any]) -> list[Any]:
    """The same for models without messages, which take a clip by its path and an image opened."""
    with Image.open(doc["image"]) as image:
        observation = image.convert("RGB")
    return [doc["video"], observation] if doc["video"] else [observation]


def scores(doc: Mapping[str, Any], responses: Sequence[str]) -> dict[str, float | None]:
    """Scores of one response; each becomes a metric. None: the question is of another domain."""
    response = responses[0]
    accuracy = grade(PROBLEM_TYPE, response, doc["answer"])
    found: dict[str, float | None] = {
        "accuracy": accuracy,
        "format": float(has_format(response)),
        "no_answer": float(not extract_answer(response)),
        "no_response": float(not response),
    }
    if doc["domain"]:
        own = doc["domain"].lower().split()[0]
        found |= {f"accuracy_{domain}": accuracy if domain == own else None for domain in DOMAINS}
    return found


def mean_known(values: Sequence[float | None]) -> float:
    """Mean over the questions that a metric is about; NaN without one."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else float("nan")
