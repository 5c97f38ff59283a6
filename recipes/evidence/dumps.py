"""What a run through verl leaves, as responses of the miniature: its validations, and its rollouts step by step.

`validation/STEP.jsonl` and `rollouts/STEP.jsonl` are verl's dumps, `metrics.jsonl` is what it logged. A dump of a
validation may have a column `consistency_likelihood`. One of rollouts has no likelihoods: those of the bonus are in
`groups.jsonl.zst`, of as many groups as `care.groups_per_step` says (-1: all).
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from tokenizers import Tokenizer

from data_prep.miniature_world import LETTERS, LEVELS
from recipes.evidence.measure import Response, measure
from verl_care.records import groups, jsonl
from verl_care.records.row_keys import prompt_of
from verl_care.report.metrics import MetricsReader

OPTION = re.compile(r"^[A-Z]\. (.+)$", re.MULTILINE)
LIKELIHOOD = "consistency_likelihood"

Row = Mapping[str, Any]
Lengths = Callable[[Sequence[str]], list[int]]


class Rollouts(NamedTuple):
    """The responses of one training step."""

    step: int
    responses: Sequence[Response]
    likelihoods: Sequence[float]
    """Under the reference; NaN where it was not asked, or not written down."""
    logged: dict[str, Any]
    prompts: Sequence[str]
    """Whose responses they are: those to one prompt are a group."""


def lengths_by(model: Path) -> Lengths:
    """Counts tokens by the tokenizer of a model's folder: of the text, and one that ends the turn.

    So a response that its length limit cut off counts one too many.
    """
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))

    def lengths(texts: Sequence[str]) -> list[int]:
        return [len(found.ids) + 1 for found in tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    return lengths


def responses_of(
    rows: Sequence[Row], lengths: Lengths, lamps: Mapping[str, str] = MappingProxyType({})
) -> list[Response]:
    """`lamps`: id of a row -> the letter that its lamp shows.

    Raises:
        ValueError: a row whose truth is none of the letters of its options.
    """
    counted = lengths([row["output"] for row in rows])
    return [_response(row, length, lamps) for row, length in zip(rows, counted, strict=True)]


def _response(row: Row, length: int, lamps: Mapping[str, str]) -> Response:
    options = OPTION.findall(row["input"])
    if row["gts"] not in LETTERS[: len(options)]:
        raise ValueError(f"the truth is {row['gts']!r}, and the prompt has {len(options)} options: no miniature dump")
    return Response.of(row["output"], options, LETTERS.index(row["gts"]), length, lamps.get(row.get("id", "")))


def read_validation(
    dump: Path, lengths: Lengths, lamps: Mapping[str, Mapping[str, str]] = MappingProxyType({})
) -> dict[str, dict[str, float]]:
    """Level -> measures. `lamps`: level -> id of a row -> the letter that its lamp shows.

    Raises:
        ValueError: a level without answers.
    """
    by_level: dict[str, list[Row]] = {level: [] for level in LEVELS}
    for row in jsonl.read(dump):
        by_level[row["data_source"].rsplit("/", 1)[-1]].append(row)
    if missing := [level for level, rows in by_level.items() if not rows]:
        raise ValueError(f"{dump} has no answers on {', '.join(missing)}: data.val_files has to name all levels")
    return {
        level: measure(
            responses_of(rows, lengths, lamps.get(level, {})), [_number(row.get(LIKELIHOOD)) for row in rows]
        )
        for level, rows in by_level.items()
    }


def read_training(training: Path, lengths: Lengths) -> list[Rollouts]:
    """Every step's rollouts, in order; of a step that was trained again after a resumption, the last."""
    metrics = MetricsReader(training)
    metrics.update()
    logged, likelihoods = metrics.logged(), _likelihoods(training)
    steps = []
    for dump in sorted((training / "rollouts").glob("*.jsonl"), key=lambda path: int(path.stem)):
        step, rows = int(dump.stem), list(jsonl.read(dump))
        known = [_known(row, step, likelihoods) for row in rows]
        prompts = [_prompt(row) for row in rows]
        steps.append(Rollouts(step, responses_of(rows, lengths), known, logged.get(step, {}), prompts))
    return steps


def bonuses(training: Path) -> dict[str, Any]:
    """What the groups of a training say of its bonus; empty for one that wrote none.

    answer_tokens    tokens of a selected response's answer -> how many there are; answers of one token have the same
                     likelihood by any mean
    groups           those with two selected responses or more
    told_apart       those of them whose selected responses differ in their bonus: no others change by it
    """
    file = groups.place(training)
    if not file.exists():
        return {}
    tokens: Counter[str] = Counter()
    told_apart = several = 0
    for group in groups.valid(jsonl.read(file)):
        selected = [response for response in group["responses"] if response.get("selected")]
        tokens.update(str(len(response["answer_tokens"])) for response in selected)
        if len(selected) > 1:
            several += 1
            told_apart += len({response["bonus"] for response in selected}) > 1
    return {"answer_tokens": dict(sorted(tokens.items())), "groups": several, "told_apart": told_apart}


Likelihoods = Mapping[tuple[int, str], Mapping[str, float]]
"""(step, prompt) -> text of a response -> likelihood of its answer."""


def _likelihoods(training: Path) -> Likelihoods:
    found: dict[tuple[int, str], dict[str, float]] = defaultdict(dict)
    file = groups.place(training)
    for group in groups.valid(jsonl.read(file)) if file.exists() else ():
        for response in group["responses"]:
            # By its text: equal texts of one prompt differ in special tokens at most.
            found[group["step"], group["uid"]][response["text"]] = _number(response["likelihood"])
    return found


def _known(row: Row, step: int, likelihoods: Likelihoods) -> float:
    return likelihoods.get((step, _prompt(row)), {}).get(row["output"], math.nan)


def _prompt(row: Row) -> str:
    return prompt_of(row["uid"])


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
