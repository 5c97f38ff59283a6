"""The folder of a run, read once and then only what was added: a training, or an evaluation of a model.

Both give their groups in the form of a training's `groups.jsonl.zst`, so the page knows one kind.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import yaml

from verl_care.data.budget import VideoBudget
from verl_care.data.marks import Columns
from verl_care.evaluation import rows as evaluation
from verl_care.evaluation.scoring.rules import Rules, read_response
from verl_care.records import groups, jsonl
from verl_care.report import dumps
from verl_care.report.metrics import MetricsReader, curves, validations
from verl_care.report.payload import Metric, Scalar, Validation
from verl_care.report.text import clean, number, whole
from verl_care.rewards import grading
from verl_care.settings import is_number

CONFIG = "config.yaml"
_SECRET = re.compile(
    r"api[_-]?key|passwd|password|secret|credential|private_key|access_token"
    r"|(?:^|[_.-])token$"  # HF_TOKEN, and not eos_token_id
    r"|(?:^|[_.-])env_vars(?:\.|$)",  # whatever a cluster passes to its workers
    re.IGNORECASE,
)


class Folder(Protocol):
    """What a page needs of a run."""

    folder: Path
    problems: list[str]
    """What could not be read, and why."""

    def update(self) -> bool:
        """Read what was added; True if there was something."""
        ...

    def config(self) -> dict[str, Any]: ...
    def metrics(self) -> dict[str, Metric]: ...
    def validation(self) -> list[Validation]: ...
    def train_groups(self) -> list[groups.Record]: ...
    def validation_groups(self) -> list[groups.Record]: ...


def open_folder(path: Path) -> Folder:
    """A run's folder, or the folder that `make quickstart` puts it in.

    Raises:
        FileNotFoundError: there is no run.
    """
    for folder in (path, path / "training"):
        if (folder / evaluation.RESPONSES).exists():
            return EvaluationFolder(folder)
        if any(folder.glob("metrics*.jsonl")) or any(
            (folder / name).exists()
            for name in (CONFIG, groups.NAME, groups.NAME + jsonl.COMPRESSED, dumps.ROLLOUTS, dumps.VALIDATION)
        ):
            return TrainingFolder(folder)
    raise FileNotFoundError(
        f"{path} is no folder of a run: there is neither a metrics.jsonl nor a {evaluation.RESPONSES}. Name the"
        " trainer.default_local_dir of a training, or the folder of an evaluation"
    )


class TrainingFolder:
    """`trainer.default_local_dir`: what CareTrainer and verl wrote there."""

    def __init__(self, folder: Path):
        self.folder, self.problems = folder, []
        self._metrics = MetricsReader(folder)
        self._validation = dumps.DumpReader(folder / dumps.VALIDATION, dumps.of_validation)
        self._rollouts = dumps.DumpReader(folder / dumps.ROLLOUTS, dumps.of_rollouts)
        self._records: list[groups.Record] = []
        self._read = 0

    def update(self) -> bool:
        parts = (self._metrics.update, self._validation.update, self._read_groups)
        changed = [self._tried(part) for part in parts]
        if not self._records:
            changed.append(self._tried(self._rollouts.update))
        return any(changed)

    def _tried(self, part: Any) -> bool:
        """A damaged file costs what is in it."""
        try:
            return part()
        except (OSError, ValueError) as error:
            if clean(str(error)) not in self.problems:
                self.problems.append(clean(str(error)))
            return False

    def _read_groups(self) -> bool:
        path = groups.place(self.folder)
        if not path.exists():
            return False
        if path.stat().st_size < self._read:
            self._records, self._read = [], 0
        records, self._read = jsonl.read_on(path, self._read)
        self._records = groups.valid([*self._records, *records])
        return bool(records)

    def config(self) -> dict[str, Any]:
        return _mapping(self.folder / CONFIG, yaml.safe_load)

    def metrics(self) -> dict[str, Metric]:
        return curves(self._metrics.logged())

    def validation(self) -> list[Validation]:
        """The metrics that verl logged, and what the dumps have beyond them: the number of questions, other means."""
        found = validations(self._metrics.logged())
        for step, members in self._validation.groups.items():
            for dataset, entry in dumps.means(step, members).items():
                logged = found.setdefault((step, dataset), entry)
                logged["questions"] = entry["questions"]
                logged["values"] = entry["values"] | logged["values"]
        return [found[key] for key in sorted(found)]

    def train_groups(self) -> list[groups.Record]:
        return self._records or [g for step in sorted(self._rollouts.groups) for g in self._rollouts.groups[step]]

    def validation_groups(self) -> list[groups.Record]:
        return [group for step in sorted(self._validation.groups) for group in self._validation.groups[step]]


class EvaluationFolder:
    """What `care_evaluate` wrote, and what was measured of it.

    A response's accuracy is its exact one in `score` with the default rules: an answer that failed counts as a wrong
    one, and what is not scored there has no accuracy here.
    """

    def __init__(self, folder: Path):
        self.folder, self.problems = folder, []
        self._state: object = None
        self._groups: list[groups.Record] = []

    def update(self) -> bool:
        files = [self.folder / evaluation.RESPONSES, *sorted((self.folder / evaluation.MEASURES).glob("*.jsonl"))]
        state = [(path.name, path.stat().st_size) for path in files]
        if state == self._state:
            return False
        self._state = state
        try:
            self._groups = self._read()
        except (OSError, ValueError, KeyError) as error:
            self.problems = [clean(f"{self.folder}: {error}")]
        return True

    def _read(self) -> list[groups.Record]:
        measures = evaluation.read_measures(self.folder)
        members: dict[tuple[str, str], list[evaluation.Row]] = defaultdict(list)
        for row in evaluation.read_rows(self.folder):
            members[row.dataset, row.id].append(row)
        return [
            {
                "step": 0,
                "uid": f"{dataset}/{id}",
                "data_source": dataset,
                "id": id,
                "problem_type": rows[0].problem_type,
                "prompt": rows[0].question,
                "question": rows[0].question,
                "options": list(rows[0].options),
                "ground_truth": rows[0].ground_truth,
                "tags": rows[0].tags,
                "responses": [
                    _answered(row, {name: found[row.key].value for name, found in measures.items() if row.key in found})
                    for row in sorted(rows, key=lambda row: row.sample)
                ],
            }
            for (dataset, id), rows in members.items()
        ]

    def config(self) -> dict[str, Any]:
        """The settings by their names, and the model by its own beside its fingerprint."""
        content = _mapping(self.folder / evaluation.SETTINGS, json.loads)
        settings = content.get("settings")
        if not isinstance(settings, dict):
            return content
        return {**settings, "model": content.get("model"), "model fingerprint": settings.get("model")}

    def metrics(self) -> dict[str, Metric]:
        return {}

    def validation(self) -> list[Validation]:
        return list(dumps.means(0, self._groups).values())

    def train_groups(self) -> list[groups.Record]:
        return []

    def validation_groups(self) -> list[groups.Record]:
        return self._groups


def _answered(row: evaluation.Row, measures: dict[str, float | None]) -> groups.Record:
    text = clean(row.response)
    return {
        "text": text,
        "length": row.response_tokens,
        "finish": row.finish,
        "accuracy": read_response(row, Rules()).exact.score,
        "format": float(grading.has_format(text)),
        "answer": groups.answer_place(text),
        "measures": measures,
    }


def _mapping(path: Path, parse: Callable[[str], Any]) -> dict[str, Any]:
    """A file of settings; nothing where there is none, or nothing that can be read."""
    try:
        return _parsed(path, path.stat().st_mtime_ns, parse)
    except (OSError, ValueError, yaml.YAMLError):
        return {}


@lru_cache(maxsize=64)
def _parsed(path: Path, _changed_ns: int, parse: Callable[[str], Any]) -> dict[str, Any]:
    found = parse(path.read_text())
    return found if isinstance(found, dict) else {}


def flattened(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Scalar]]:
    """(dotted key, value); a list is one value, as JSON, and what looks like a secret is left out: a page is shared."""
    for key, value in _shareable(config).items():
        if isinstance(value, Mapping):
            yield from flattened(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            yield f"{prefix}{key}", clean(json.dumps(value, default=str))
        else:
            yield f"{prefix}{key}", _scalar(value)


def _shareable(value: Any) -> Any:
    """Without what has the name of a secret, in lists too, however deep."""
    if isinstance(value, Mapping):
        named = ((clean(key), below) for key, below in value.items())
        return {name: _shareable(below) for name, below in named if not _SECRET.search(name)}
    return [_shareable(below) for below in value] if isinstance(value, list) else value


def _scalar(value: Any) -> Scalar:
    if value is None or isinstance(value, bool) or whole(value) == value:
        return value
    return number(value) if is_number(value) else clean(value)


def budget_of(config: Mapping[str, Any]) -> VideoBudget:
    """How the run sampled clips; the defaults where its configuration does not say."""
    values = dict(flattened(config))
    said = {name: values.get(f"data.video.{name}") for name in VideoBudget.__dataclass_fields__}
    return VideoBudget(**{name: value for name, value in said.items() if is_number(value)})  # type: ignore[arg-type]


def data_columns(config: Mapping[str, Any]) -> Columns:
    """Where their rows have prompt, clips and images."""
    data = config.get("data")
    named = data.items() if isinstance(data, Mapping) else ()
    return Columns.of({key: name for key, name in named if isinstance(name, str)})


def data_files(config: Mapping[str, Any]) -> list[Path]:
    """The files that a run was validated on."""
    files = (config.get("data") or {}).get("val_files") or []
    return [Path(file) for file in ([files] if isinstance(files, str) else files) if isinstance(file, str)]
