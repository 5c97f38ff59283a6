"""verl's own dumps of responses, `validation/<step>.jsonl` and `rollouts/<step>.jsonl`, as groups of their prompts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any

from verl_care.records import groups, jsonl
from verl_care.records.row_keys import prompt_of
from verl_care.report.metrics import empty
from verl_care.report.payload import Validation
from verl_care.report.text import clean, number

VALIDATION, ROLLOUTS = "validation", "rollouts"


class DumpReader:
    """The dumps of one folder; a file is read again when it has grown."""

    def __init__(self, folder: Path, regroup: Callable[[Sequence[dict], int], list[groups.Record]]):
        self._folder, self._regroup = folder, regroup
        self._seen: dict[int, tuple[int, int]] = {}
        self.groups: dict[int, list[groups.Record]] = {}
        """By step."""

    def update(self) -> bool:
        """True if there was something new.

        Raises:
            ValueError: a damaged line, see `jsonl.read`.
        """
        files = {int(p.stem): p for p in self._folder.glob("*.jsonl") if p.stem.isascii() and p.stem.isdigit()}
        gone = self._seen.keys() - files.keys()  # set aside, as the training went back behind them
        for step in gone:
            del self._seen[step], self.groups[step]
        changed = bool(gone)
        for step, path in files.items():
            status = path.stat()
            state = status.st_size, status.st_mtime_ns
            if self._seen.get(step) != state:
                self._seen[step] = state
                self.groups[step] = self._regroup(list(jsonl.read(path)), step)
                changed = True
        return changed


def of_validation(rows: Sequence[dict], step: int) -> list[groups.Record]:
    """One group per question: a dump of our reward manager names it, by an empty text where its row has no id."""
    return _regrouped(rows, step, lambda row: (row.get("data_source"), row.get("id")) if row.get("id") else _uid(row))


def of_rollouts(rows: Sequence[dict], step: int) -> list[groups.Record]:
    """One group per prompt of the step; a dump of rollouts says nothing of its question but its text."""
    return _regrouped(rows, step, _uid)


def means(step: int, found: Iterable[groups.Record]) -> dict[str, Validation]:
    """Data set -> the means over its responses, and how many questions it has."""
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    entries: dict[str, Validation] = {}
    for group in found:
        entry = entries.setdefault(group["data_source"], empty(step, group["data_source"]))
        entry["questions"] += 1
        for response in group["responses"]:
            named = {name: response[name] for name in ("accuracy", "format")}
            named |= {groups.MEASURE + name: value for name, value in response["measures"].items()}
            for name, value in named.items():
                if value is not None:
                    values[group["data_source"]][name].append(value)
    for dataset, entry in entries.items():
        entry["values"] = {name: sum(found) / len(found) for name, found in values[dataset].items()}
    return entries


def _regrouped(rows: Sequence[dict], step: int, name: Callable[[dict], Hashable]) -> list[groups.Record]:
    members: dict[Hashable, list[dict]] = defaultdict(list)
    for row in rows:
        members[name(row)].append(row)
    return [_group(found, step) for found in members.values()]


def _group(rows: Sequence[dict], step: int) -> groups.Record:
    first = rows[0]
    return {
        "step": step,
        "uid": _uid(first),
        "data_source": clean(first.get("data_source")),
        "id": clean(first.get("id")),
        "problem_type": clean(first.get("problem_type")),
        "prompt": clean(first.get("input")),
        "ground_truth": clean(first.get("gts")),
        "responses": [_response(row) for row in rows],
    }


def _response(row: dict) -> groups.Record:
    text = clean(row.get("output"))
    return {
        "text": text,
        "accuracy": number(row.get("accuracy")),
        "format": number(row.get("format")),
        "reward": number(row.get("score")),
        "answer": groups.answer_place(text),
        "measures": {
            name.removeprefix(groups.MEASURE): number(value)
            for name, value in row.items()
            if name.startswith(groups.MEASURE)
        },
    }


def _uid(row: dict[str, Any]) -> str:
    return prompt_of(clean(row.get("uid")))
