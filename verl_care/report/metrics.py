"""The numbers that verl's file logger wrote: `metrics.jsonl`, and the parts of a run that was resumed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

from verl_care.records import jsonl
from verl_care.report.payload import Metric, Validation
from verl_care.report.text import clean, number, whole

Logged = dict[int, dict[str, Any]]
"""Step -> name -> value."""

_PART = re.compile(r"metrics\.until_step_(\d+)")
_OF_VALIDATION = re.compile(r"val-(?:core|aux)/(?P<dataset>.+)/(?P<name>[^/]+)/mean@\d+")
_NAMES = {"acc": "accuracy"}
_NO_MEANS = {"answer_start", "answer_stop", "acc_success_only"}  # positions, and a mean without the failures


@dataclass
class _Part:
    rows: list[dict[str, Any]] = field(default_factory=list)
    read: int = 0


class MetricsReader:
    """Reads what was added to a run's metrics since it last looked."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._parts: dict[int, _Part] = {}  # by inode: a resumption renames a file

    def update(self) -> bool:
        """True if there was something new.

        Raises:
            ValueError: a damaged line, see `jsonl.read_on`.
        """
        changed = False
        for path in self._folder.glob("metrics*.jsonl"):
            status = path.stat()
            part = self._parts.get(status.st_ino)
            if part is None or status.st_size < part.read:  # verl's file logger starts a file anew
                part = self._parts[status.st_ino] = _Part()
            if status.st_size > part.read:
                rows, part.read = jsonl.read_on(path, part.read)
                part.rows += rows
                changed |= bool(rows)
        return changed

    def logged(self) -> Logged:
        """By step. What lies behind the step of any later start does not count: each goes back behind all before."""
        files = sorted(self._folder.glob("metrics*.jsonl"), key=lambda path: (_end(path) == inf, path.stat().st_mtime))
        logged: Logged = {}
        for place, path in enumerate(files):
            end = min(map(_end, files[place:]))
            for row in self._parts.get(path.stat().st_ino, _Part()).rows:
                step, data = whole(row.get("step")), row.get("data")
                if step is not None and isinstance(data, dict) and step <= end:
                    logged.setdefault(step, {}).update(data)
        return logged


def _end(path: Path) -> float:
    """The last step of a part that counts; a start at step 0 leaves nothing of what was logged before it."""
    resumed_from = _PART.match(path.name)
    return int(resumed_from[1]) or -1 if resumed_from else inf


def curves(logged: Logged) -> dict[str, Metric]:
    """A curve for each name, over the steps that logged it."""
    found: dict[str, Metric] = {}
    for step in sorted(logged):
        for name, value in logged[step].items():
            curve = found.setdefault(clean(name), {"steps": [], "values": []})
            curve["steps"].append(step)
            curve["values"].append(number(value))
    return {name: curve for name, curve in sorted(found.items()) if any(v is not None for v in curve["values"])}


def validations(logged: Logged) -> dict[tuple[int, str], Validation]:
    """(step, data set) -> the means over its responses, by verl's names of them."""
    found: dict[tuple[int, str], Validation] = {}
    for step in sorted(logged):
        for metric, value in logged[step].items():
            named, mean = _OF_VALIDATION.fullmatch(metric), number(value)
            if named is None or mean is None or named["name"] in _NO_MEANS:
                continue
            dataset = clean(named["dataset"])
            entry = found.setdefault((step, dataset), empty(step, dataset))
            entry["values"].setdefault(_NAMES.get(named["name"], clean(named["name"])), mean)
    return found


def empty(step: int, dataset: str) -> Validation:
    return {"step": step, "dataset": dataset, "questions": 0, "values": {}}
