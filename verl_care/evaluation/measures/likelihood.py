"""`likelihood RUN --reference MODEL --data FILE ...`: how likely a model finds each answer behind its reasoning."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from tqdm import tqdm

from verl_care.data.marks import Columns, mismatches
from verl_care.evaluation.generate import settings
from verl_care.evaluation.generate.questions import Question, QuestionKey
from verl_care.evaluation.measures.folder import NO_RESPONSE, to_measure
from verl_care.evaluation.rows import SETTINGS, Measured, Row, append_measures, slug

DESCRIPTION = "the likelihood of each answer under a reference, given video, question and reasoning (transformers)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_folder", metavar="RUN", type=Path, help="folder of an evaluation")
    parser.add_argument(
        "--reference", required=True, help="a Hugging Face folder or name, or a training checkpoint global_step_N"
    )
    parser.add_argument(
        "--data", required=True, nargs="+", type=Path, help="the parquet files that the questions were asked from"
    )
    for kind, name in (("video", Columns().video), ("image", Columns().image)):
        parser.add_argument(
            f"--{kind}-key", default=name, metavar="COLUMN", help=f"data.{kind}_key of the evaluation; default {name}"
        )
    parser.add_argument("--batch", type=int, default=8, help="answers that are scored, and written down, at a time")
    parser.add_argument("--device", default="auto", help="auto (a GPU if there is one), cpu, cuda, cuda:1, ...")


def run(arguments: argparse.Namespace) -> int:
    if arguments.batch < 1:
        raise ValueError(f"--batch {arguments.batch}: at least one answer is scored at a time")
    name = f"likelihood-{slug(arguments.reference)}"
    chosen = settings.read(arguments.run_folder)
    rows = to_measure(arguments.run_folder, name)
    if chosen is None:
        raise FileNotFoundError(
            f"{arguments.run_folder} has no {SETTINGS}, so nothing says which frames its answers were given to: name a"
            " folder that `generate` wrote"
        )
    counts = {"measured": 0, "unknown": 0}

    def write(measured: Sequence[Measured]) -> None:
        append_measures(arguments.run_folder, name, measured, reference=arguments.reference)
        counts["measured"] += len(measured)
        counts["unknown"] += sum(found.value is None for found in measured)

    columns = Columns(video=arguments.video_key, image=arguments.image_key)
    sources = sources_of(rows, arguments.data, chosen.get(settings.PROMPTS), columns)
    if any(row.response is not None for row in rows):
        from verl_care.evaluation.generate.checkpoint import as_model
        from verl_care.evaluation.measures.reference import Asked, Reference

        reference = Reference(as_model(arguments.reference), _device(arguments.device), chosen, columns)
        with tqdm(total=len(rows), desc="scored", unit="answer") as bar:
            for start in range(0, len(rows), arguments.batch):
                batch = rows[start : start + arguments.batch]
                write(reference.measure([Asked(row, sources[QuestionKey(row.dataset, row.id)]) for row in batch]))
                bar.update(len(batch))
    else:
        write([Measured(row.key, None, NO_RESPONSE) for row in rows])
    print(f"{counts['measured']} answers measured, {counts['unknown']} of them unknown")
    return 0


def sources_of(
    rows: Sequence[Row], files: Sequence[Path], wording: str | None, columns: Columns
) -> dict[QuestionKey, dict[str, Any]]:
    """The data's row of each question.

    Args:
        wording: that the questions had when they were answered; None: not known.
        columns: where the files have their media.

    Raises:
        ValueError: if a question is not in the files, is not the one that was answered, or was answered and has not as
            many media as marks.
        FileNotFoundError: for a file that is not there.
    """
    by_key = {QuestionKey(row.dataset, row.id): row for row in rows}
    answered = {QuestionKey(row.dataset, row.id) for row in rows if row.response is not None}
    found: dict[QuestionKey, dict[str, Any]] = {}
    for source, wrong in _rows_of(files, columns):
        question = Question.of(source)
        row = by_key.get(question.key)
        if row is None:
            continue
        if question.changed_since(row) or (wording is not None and question.wording != wording):
            raise ValueError(
                f"--data: question {row.id} of {row.dataset} was another one, or worded otherwise, when it was"
                " answered. Name the files that the evaluation was made from"
            )
        if wrong and question.key in answered:
            raise ValueError(
                f"--data: question {row.id} of {row.dataset} was answered, and here it has {wrong}. Give --video-key"
                " and --image-key the columns that data.video_key and data.image_key of the evaluation named"
            )
        found[question.key] = source
    if missing := [key for key in by_key if key not in found]:
        raise ValueError(
            f"--data: {len(missing)} of {len(by_key)} questions are not in these files, {missing[0].id} of"
            f" {missing[0].dataset} among them. Name all files that the evaluation was made from"
        )
    return found


def _rows_of(files: Sequence[Path], columns: Columns) -> Iterator[tuple[dict[str, Any], str | None]]:
    """Each row, and what is wrong with its media."""
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"--data {file}: no such file")
        for batch in pq.ParquetFile(file).iter_batches():
            yield from zip(batch.to_pylist(), mismatches(batch, columns), strict=True)


def _device(chosen: str) -> str:
    import torch

    return chosen if chosen != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
