"""Runs -> the payload of a page. Whatever their files hold, the payload is valid, and bounded; its notes say how."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from verl_care.records import groups as group_records
from verl_care.report import data_rows, folders, text
from verl_care.report import published as paper
from verl_care.report.folders import Folder
from verl_care.report.payload import SCHEMA, Answer, Group, Payload, Question, Response, Run
from verl_care.report.thumbnails import MAX_BYTES, Thumbnails

Record = group_records.Record
Split = Literal["train", "validation"]
Entry = tuple[int, Split, Record]
"""(number of the run, split, the record of a group)."""

MAX_RESPONSES = 10_000
MAX_CHARACTERS = 1 << 21  # of one response
VALIDATION_QUESTIONS = 64


def collect(runs: Sequence[Path], **options: Any) -> Payload:
    """The payload of some runs; `options` are those of `Collector`."""
    return Collector(runs, **options).payload()


class Collector:
    """Follows some runs: each `payload()` reads what was added since the one before.

    Questions, groups and images stand in the order in which they were first seen, so that a longer payload begins with
    what a shorter one had, as long as no bound is reached.

    Args:
        runs: folders of trainings and evaluations.
        groups_per_step: of training, on the page; None for all that were kept.
        max_responses: on the page. Beyond it whole questions are left out, the same ones of all runs and steps.
        validation_questions: of each data set whose answers are shown; the means are of all.
        max_image_bytes: of all pictures.
        data: parquet files with the questions of evaluations, which do not say where they are; a training does.
        live: whether a server behind the page follows the runs.

    Raises:
        FileNotFoundError: a folder that is no run.
    """

    def __init__(
        self,
        runs: Sequence[Path],
        *,
        groups_per_step: int | None = None,
        max_responses: int = MAX_RESPONSES,
        validation_questions: int = VALIDATION_QUESTIONS,
        max_image_bytes: int = MAX_BYTES,
        data: Sequence[Path] = (),
        live: bool = False,
    ):
        self._folders = [folders.open_folder(Path(run)) for run in runs]
        self._names = names_of([folder.folder for folder in self._folders])
        self._groups_per_step, self._max_responses = groups_per_step, max_responses
        self._validation_questions, self._live = validation_questions, live
        self._data = [Path(file) for file in data]
        self._thumbnails = Thumbnails(max_image_bytes)
        self._questions: dict[str, int] = {}
        self._question_list: list[Question] = []
        self._order: dict[tuple, int] = {}
        self._rows: list[dict[data_rows.Name, Record | None]] = [{} for _ in self._folders]

    def update(self) -> bool:
        """Read what was added; True if there was something."""
        changed = [folder.update() for folder in self._folders]  # all of them, not only up to the first
        return any(changed)

    def payload(self) -> Payload:
        self.update()
        notes = [problem for folder in self._folders for problem in folder.problems]
        shown = self._shown(notes)
        configs = [folder.config() for folder in self._folders]
        made = [self._group(*entry, configs) for entry in tqdm(shown, desc="groups", disable=None, leave=False)]
        cut = sum(response["cut"] > 0 for group in made for response in group["responses"])
        if cut:
            notes.append(f"{cut} responses are cut after {MAX_CHARACTERS:,} characters")
        runs: list[Run] = [
            {
                "name": name,
                "folder": text.clean(str(folder.folder.absolute())),
                "config": dict(folders.flattened(config)),
                "metrics": folder.metrics(),
                "validation": folder.validation(),
            }
            for name, folder, config in zip(self._names, self._folders, configs, strict=True)
        ]
        return {
            "schema": SCHEMA,
            "title": " | ".join(self._names),
            "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "live": self._live,
            "runs": runs,
            "published": paper.lines_for(runs),
            "questions": list(self._question_list),
            "groups": made,
            "images": list(self._thumbnails.images),
            "notes": notes,
        }

    def _shown(self, notes: list[str]) -> list[Entry]:
        """The groups on the page, within the bounds, in the order of their first being seen."""
        entries: list[Entry] = []
        for run, folder in enumerate(self._folders):
            damaged = 0
            splits: dict[Split, list[Record]] = {
                "train": self._of_steps(folder),
                "validation": self._of_validation(run, folder, notes),
            }
            for split, records in splits.items():
                for record in records:
                    if is_group(record):
                        entries.append((run, split, record))
                    else:
                        damaged += 1
            if damaged:
                notes.append(f"{self._names[run]}: {damaged} groups are damaged and left out")
        entries = self._within_bound(entries, notes)
        for run, split, record in entries:
            self._order.setdefault((run, split, record["step"], record.get("uid")), len(self._order))
        return sorted(entries, key=lambda entry: self._order[entry[0], entry[1], entry[2]["step"], entry[2].get("uid")])

    def _of_steps(self, folder: Folder) -> list[Record]:
        records = folder.train_groups()
        if self._groups_per_step is None:
            return records
        by_step: dict[Any, dict[str, Record]] = defaultdict(dict)
        for number, record in enumerate(records):
            by_step[record.get("step")][str(number)] = record
        return [
            members[number]
            for members in by_step.values()
            for number in group_records.choose({n: key_of(r) for n, r in members.items()}, self._groups_per_step)
        ]

    def _of_validation(self, run: int, folder: Folder, notes: list[str]) -> list[Record]:
        """Of some questions of each data set, the same at every step; with clip and options, which the data has."""
        by_dataset: dict[str, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
        for record in folder.validation_groups():
            by_dataset[record["data_source"]][key_of(record)].append(record)
        records = []
        for dataset, questions in by_dataset.items():
            chosen = group_records.choose({key: key for key in questions}, self._validation_questions)
            if len(chosen) < len(questions):
                notes.append(f"{self._names[run]}: {len(chosen)} of {len(questions)} questions of {dataset} are shown")
            records += [record for key in chosen for record in questions[key]]
        rows = self._data_rows(run, folder, {(record["data_source"], record["id"]) for record in records}, notes)
        return [{**(rows.get((record["data_source"], record["id"])) or {}), **record} for record in records]

    def _data_rows(
        self, run: int, folder: Folder, wanted: set[data_rows.Name], notes: list[str]
    ) -> dict[data_rows.Name, Record | None]:
        known = self._rows[run]
        if missing := wanted - known.keys():
            config = folder.config()
            files = [*folders.data_files(config), *self._data]
            found, problems = data_rows.find(files, missing, folders.data_columns(config))
            known |= dict.fromkeys(missing) | found
            folder.problems += [text.clean(problem) for problem in problems]
            notes += [text.clean(problem) for problem in problems]
        return known

    def _within_bound(self, entries: list[Entry], notes: list[str]) -> list[Entry]:
        total = sum(len(record["responses"]) for *_, record in entries)
        if total <= self._max_responses:
            return entries
        sizes: dict[str, int] = defaultdict(int)
        for *_, record in entries:
            sizes[key_of(record)] += len(record["responses"])
        kept, size = set(), 0
        for key in group_records.choose({key: key for key in sizes}, group_records.ALL):
            if size + sizes[key] > self._max_responses:
                break
            kept.add(key)
            size += sizes[key]
        notes.append(f"{size:,} of {total:,} responses are shown: those to {len(kept):,} of {len(sizes):,} questions")
        return [entry for entry in entries if key_of(entry[2]) in kept]

    def _group(self, run: int, split: Split, record: Record, configs: list[dict]) -> Group:
        return {
            "run": run,
            "step": record["step"],
            "question": self._question(record, configs[run]),
            "threshold": text.number(record.get("threshold")),
            "split": split,
            "responses": [_response(response) for response in record["responses"]],
        }

    def _question(self, record: Record, config: dict[str, Any]) -> int:
        key = key_of(record)
        if key not in self._questions:
            budget = folders.budget_of(config)
            videos, images = record.get("videos") or (), record.get("images") or ()
            self._questions[key] = len(self._question_list)
            self._question_list.append(
                {
                    "key": key,
                    "data_source": text.clean(record.get("data_source")),
                    "id": text.clean(record.get("id")),
                    "problem_type": text.clean(record.get("problem_type")),
                    "question": None if record.get("question") is None else text.clean(record["question"]),
                    "prompt": text.clean(record.get("prompt")),
                    "options": text.texts(record.get("options")),
                    "truth": text.clean(record.get("ground_truth")),
                    "tags": text.tags(record.get("tags")),
                    "clips": [self._thumbnails.clip(video, budget) for video in videos if isinstance(video, dict)],
                    "images": [self._thumbnails.picture(image) for image in images],
                }
            )
        return self._questions[key]


def is_group(record: Record) -> bool:
    """True if a record has what no group can do without."""
    responses = record.get("responses")
    return (
        text.whole(record.get("step")) is not None
        and isinstance(record["step"], int)
        and isinstance(responses, list)
        and all(isinstance(response, dict) for response in responses)
    )


def key_of(record: Record) -> str:
    """The name of a group's question: `data_source/id`, or where there is no id what its prompt and answer are."""
    source, id = text.clean(record.get("data_source")), text.clean(record.get("id"))
    if id:
        return f"{source}/{id}"
    content = f"{text.clean(record.get('prompt'))}\0{text.clean(record.get('ground_truth'))}"
    return f"{source}/#{hashlib.blake2b(content.encode(), digest_size=6).hexdigest()}"


def names_of(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that differ from each other; a folder `training` has the name of its parent."""
    parts = [path.absolute().parts for path in paths]
    parts = [part[:-1] if part[-1] == "training" else part for part in parts]
    longest = max(map(len, parts), default=1)
    ends = (["/".join(part[-length:]) for part in parts] for length in range(1, longest + 1))
    names = next((names for names in ends if len(set(names)) == len(set(parts))), [])
    return [text.clean(name) for name in names]


def _response(record: Record) -> Response:
    body, cut = text.bounded(record.get("text"), MAX_CHARACTERS)
    finish, selected, measures = record.get("finish"), record.get("selected"), record.get("measures")
    tokens = record.get("answer_tokens")
    return {
        "text": body,
        "cut": cut,
        "length": text.whole(record.get("length")),
        "finish": finish if finish in ("stop", "length") else None,
        "accuracy": text.number(record.get("accuracy")),
        "format": text.number(record.get("format")),
        "likelihood": text.number(record.get("likelihood")),
        "selected": selected if isinstance(selected, bool) else None,
        "bonus": text.number(record.get("bonus")),
        "reward": text.number(record.get("reward")),
        "advantage": text.number(record.get("advantage")),
        "answer": _answer(record.get("answer"), len(body)),
        "answer_tokens": [
            {"text": text.clean(token.get("text")), "log_prob": text.number(token.get("log_prob"))}
            for token in (tokens if isinstance(tokens, list) else ())
            if isinstance(token, dict)
        ],
        "measures": {text.clean(name): text.number(value) for name, value in measures.items()}
        if isinstance(measures, dict)
        else {},
    }


def _answer(place: Any, length: int) -> Answer | None:
    if not isinstance(place, dict):
        return None
    start, stop = text.whole(place.get("start")), text.whole(place.get("stop"))
    if start is None or stop is None or not 0 <= start < stop <= length:
        return None
    return {"start": start, "stop": stop}
