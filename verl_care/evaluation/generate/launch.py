"""An evaluation in the process the user started: what is left to do, its progress bar, and what is there at the end."""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from hydra.core.utils import JobStatus
from omegaconf import DictConfig

from verl_care.data.marks import Columns, mismatches
from verl_care.evaluation.generate import checkpoint, checks, settings
from verl_care.evaluation.generate.progress import Progress
from verl_care.evaluation.generate.questions import Question, QuestionKey
from verl_care.evaluation.generate.run_folder import (
    RunLock,
    RunRefused,
    check_unchanged,
    claim,
    missing_samples,
    rows_in,
)
from verl_care.evaluation.rows import RESPONSES, Row, append_rows
from verl_care.launch import CareRun
from verl_care.settings import CareConfigError

COLUMNS = ("data_source", "prompt", "reward_model", "extra_info")
BATCH = 1024  # rows at a time whose media are counted; they may hold pixels
NAMED = 5  # questions that cannot be asked, on the screen; responses.jsonl has all


class EvaluationRun(CareRun):
    """Starts Ray only if a sample is missing, and ends with an error if one still is."""

    def prepare(self, config: DictConfig) -> None:
        if problems := list(checks.problems(config)):
            raise CareConfigError("\n".join(problems))
        run, rollout = Path(config.evaluation.run), config.actor_rollout_ref
        try:
            questions = read_questions(config)
            wording = wording_of(questions, config.evaluation.allow_training_prompts)
            model = checkpoint.fingerprint(checkpoint.local_folder(str(rollout.model.path)))
            self._lock = RunLock(run)
            self._lock.take()
            chosen = settings.settings_of(config, model, wording)
            claim(run, chosen, str(rollout.model.path))
            rows = rows_in(run)
            check_unchanged(questions, rows, run)
        except RunRefused as error:
            raise CareConfigError(str(error)) from error
        samples, retry = int(config.evaluation.samples), bool(config.evaluation.retry_failed)
        unaskable = without_their_media(config, questions)
        if unaskable:
            key, never = settings.key_of(chosen), missing_samples(unaskable, rows, samples)
            append_rows(run, [row for question in questions for row in failed(question, unaskable, never, key)])
            print(f"verl_care: {len(unaskable)} questions cannot be asked, and count as failed: {named(unaskable)}")
        askable = [question.key for question in questions if question.key not in unaskable]
        missing = missing_samples(askable, rows, samples, retry)
        if not missing:
            print(f"verl_care: nothing to do, {summary(run, questions, samples)}")
            sys.exit(0)
        self._lock.share()
        count = sum(map(len, missing.values()))
        print(
            f"verl_care: {count} responses to {len(missing)} of {len(questions)} questions are missing in {run}; each"
            " is written as it comes. After an interruption the same command goes on. verl's own figures at the end"
            " are of what this start answers"
        )
        self._questions, self._samples = questions, samples
        self._progress = Progress(run / RESPONSES, count)

    def on_job_end(self, config: DictConfig, job_return: Any, **_: Any) -> None:
        self._progress.stop()
        run = Path(config.evaluation.run)
        missing = missing_samples([question.key for question in self._questions], rows_in(run), self._samples)
        print(f"verl_care: {summary(run, self._questions, self._samples)}")
        if missing:
            count = sum(map(len, missing.values()))
            print(f"verl_care: {count} responses are missing: start the same command again", file=sys.stderr)
            if job_return.status is not JobStatus.FAILED:  # Hydra raises what failed
                sys.exit(1)


def read_questions(config: DictConfig) -> list[Question]:
    """The questions of `data.val_files`, of which `data.val_max_samples` takes the first ones.

    Raises:
        CareConfigError: for a row without an id, or an id that stands twice.
    """
    paths = _paths(config)
    try:
        questions = [Question.of(row) for path in paths for row in _rows_of(path)]
    except ValueError as error:
        raise CareConfigError(f"data.val_files: {error}") from error
    if not questions:
        named_files = ", ".join(map(str, paths))
        raise CareConfigError(
            f"data.val_files={named_files}: no question there. Set data.val_files to files with rows."
        )
    most = config.data.val_max_samples
    questions = questions[:most] if most > 0 else questions
    twice = [key for key, count in Counter(question.key for question in questions).items() if count > 1]
    if twice:
        raise CareConfigError(
            f"data.val_files: {len(twice)} ids stand more than once, {twice[0].id} of {twice[0].dataset} among them:"
            " their answers could not be told apart. Set data.val_files to files that share no question."
        )
    return questions


def without_their_media(config: DictConfig, questions: Sequence[Question]) -> dict[QuestionKey, str]:
    """Those of the `questions` that have not as many media as marks, and what is wrong; verl would end the run at one.

    Raises:
        CareConfigError: for a column of media that is no list, and for a file none of whose questions has its media:
            then it is the columns that are wrong.
    """
    columns = Columns.of(config.data)
    found: dict[QuestionKey, str] = {}
    left = iter(questions)
    for path in _paths(config):
        try:
            reasons = _mismatches_of(path, columns)
            of_file = [(question.key, reason) for reason, question in zip(reasons, left, strict=False)]
        except ValueError as error:
            raise CareConfigError(f"data.val_files: {error}") from error
        if of_file and all(reason for _, reason in of_file):
            raise CareConfigError(
                f"data.val_files: {path}: none of its {len(of_file)} questions has as many media as marks, the first:"
                f" {of_file[0][1]}. Set data.video_key and data.image_key to the columns of clips and images."
            )
        found |= {key: reason for key, reason in of_file if reason}
    return found


def failed(
    question: Question, reasons: Mapping[QuestionKey, str], missing: Mapping[QuestionKey, Sequence[int]], key: str
) -> list[Row]:
    """The rows of a question that cannot be asked, for its samples that have none."""
    return [question.failed(n, f"media: {reasons[question.key]}", key) for n in missing.get(question.key, ())]


def named(reasons: Mapping[QuestionKey, str]) -> str:
    """The first of them."""
    first = "; ".join(f"{key.id} of {key.dataset}: {text}" for key, text in itertools.islice(reasons.items(), NAMED))
    return first + (f"; and {len(reasons) - NAMED} more" if len(reasons) > NAMED else "")


def wording_of(questions: Sequence[Question], allow_training: bool) -> str:
    """The one wording that all questions have.

    Raises:
        CareConfigError: for a mixture, and for the training wording unless it is allowed.
    """
    (wording, *others) = Counter(question.wording for question in questions).most_common()
    if others:
        found = ", ".join(f"{count} {name}" for name, count in (wording, *others))
        raise CareConfigError(
            f"data.val_files: the questions have different wordings ({found}), so their scores would not be of one"
            " prompt. Set data.val_files to files that were converted with one --prompt."
        )
    if wording[0] == "released" and not allow_training:
        raise CareConfigError(
            "data.val_files: these prompts have the release's training wording, and its evaluation has another. Set"
            " data.val_files to the evaluation files of data_prep, or evaluation.allow_training_prompts=true."
        )
    if wording[0] != "released_evaluation":
        print(f"verl_care: the prompts have not the release's evaluation wording; noted in settings.json: {wording[0]}")
    return wording[0]


def summary(run: Path, questions: Sequence[Question], samples: int) -> str:
    """How much of each data set is answered."""
    wanted = {QuestionKey(*question.key) for question in questions}
    rows = [row for row in rows_in(run) if QuestionKey(row.dataset, row.id) in wanted and row.sample < samples]
    asked = Counter(question.dataset for question in questions)
    lines = []
    for dataset, count in sorted(asked.items()):
        mine = [row for row in rows if row.dataset == dataset]
        lines.append(f"  {dataset}: {len(mine)} of {count * samples} responses{_troubles(mine)}")
    return "\n".join([f"{run} holds", *lines, f"score them: python -m verl_care.evaluation score {run}"])


def _troubles(rows: Sequence[Row]) -> str:
    kinds = Counter(f"failed ({row.failure.partition(':')[0]})" for row in rows if row.failure is not None)
    kinds["cut off"] = sum(row.finish == "length" for row in rows)
    return "".join(f", {count} {kind}" for kind, count in kinds.items() if count)


def _paths(config: DictConfig) -> list[Path]:
    files = config.data.val_files
    return [Path(file).expanduser() for file in ([files] if isinstance(files, str) else files)]


def _mismatches_of(path: Path, columns: Columns) -> Iterator[str | None]:
    file = pq.ParquetFile(path)
    names = [name for name in columns if name in file.schema_arrow.names]
    for batch in file.iter_batches(BATCH, columns=names):
        yield from mismatches(batch, columns)


def _rows_of(path: Path) -> Iterator[dict[str, Any]]:
    file = pq.ParquetFile(path)
    columns = [name for name in COLUMNS if name in file.schema_arrow.names]
    for batch in file.iter_batches(columns=columns):
        yield from batch.to_pylist()
