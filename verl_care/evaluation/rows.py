"""What an evaluation leaves behind: a folder with the answers, and with what was measured of them.

RUN/settings.json        model, sampling, frames, prompts: everything that an answer depends on
RUN/responses.jsonl      a `Row` for each question and sample, appended as it is answered
RUN/measures/NAME.jsonl  a `Measured` for each row that a judge, or a measure without one, has looked at
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from verl_care.records import jsonl

SETTINGS, RESPONSES, MEASURES = "settings.json", "responses.jsonl", "measures"


_UNSAFE = re.compile(r"[^A-Za-z0-9.]+")


class Key(NamedTuple):
    """One response, within one folder: so within one model and one setting."""

    dataset: str
    id: str
    sample: int


@dataclass(frozen=True)
class Row:
    """One response to one question, or why there is none."""

    dataset: str  # `data_source` of the data: seed_bench_r1/L1
    id: str
    sample: int  # 0 .. k-1
    problem_type: str
    ground_truth: str
    question: str  # without the template of the prompt
    options: tuple[str, ...]  # "A. text"; empty for open questions
    response: str | None  # None: see `failure`
    finish: Literal["stop", "length"] | None
    response_tokens: int | None
    failure: str | None = None  # "media: ..." or "generation: ..."; such a row counts in every denominator
    tags: dict[str, str] = field(default_factory=dict)  # domain, scenario, task_type, duration, source: those it has
    settings: str = ""  # key of the settings it was made with

    @property
    def key(self) -> Key:
        return Key(self.dataset, self.id, self.sample)


class Measured(NamedTuple):
    """What one measure says of one response."""

    key: Key
    value: float | None  # 1 consistent, 0 not, or a likelihood in between; None: unknown
    why: str | None = None  # of an unknown: "refused", "no answer", "timeout", ...


def read_rows(run: Path) -> list[Row]:
    """All answers of a run, the last one where a key stands twice.

    Raises:
        FileNotFoundError: `run` is no such folder.
        ValueError: a line that is damaged or lacks a field.
    """
    path = run / RESPONSES
    if not path.exists():
        raise FileNotFoundError(f"{run} has no {RESPONSES}: name the folder that `care_evaluate` wrote")
    rows: dict[Key, Row] = {}
    for number, line in enumerate(jsonl.read(path), start=1):
        try:
            row = Row(**{**line, "options": tuple(line["options"])})
        except (TypeError, KeyError) as error:
            raise ValueError(f"{path}, line {number}, is no row of an evaluation: {error}") from error
        rows[row.key] = row
    return list(rows.values())


def append_rows(run: Path, rows: Iterable[Row]) -> None:
    jsonl.append(run / RESPONSES, map(asdict, rows))


def read_measures(run: Path) -> dict[str, dict[Key, Measured]]:
    """Name of the measure -> what it says of each response.

    Raises:
        ValueError: a line that is damaged, lacks a field or has a value that is no number.
    """
    found: dict[str, dict[Key, Measured]] = {}
    for path in sorted((run / MEASURES).glob("*.jsonl")):
        found[path.stem] = {}
        for number, line in enumerate(jsonl.read(path), start=1):
            try:
                key = Key(line["dataset"], line["id"], line["sample"])
                value = None if line["value"] is None else float(line["value"])
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{path}, line {number}, is no measure of a response: {error}") from error
            found[path.stem][key] = Measured(key, value, line.get("why"))
    return found


def slug(model: str) -> str:
    """A model's name or folder, whole, as a part of a measure's name: Qwen/Qwen2.5-VL-7B is Qwen-Qwen2.5-VL-7B."""
    return _UNSAFE.sub("-", model).strip("-.") or "model"


def append_measures(run: Path, name: str, measured: Iterable[Measured], **more: Any) -> None:
    """Append to RUN/measures/NAME.jsonl; `more` (model, prompt's version) stands in every line."""
    lines = ({**m.key._asdict(), "value": m.value, "why": m.why, **more} for m in measured)
    jsonl.append(run / MEASURES / f"{name}.jsonl", lines)
