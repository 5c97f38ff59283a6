"""Decode every clip and image that a parquet file of verl's schema uses, before training does.

    python -m data_prep.check_media training_6k.parquet [--jobs N] [--timeout SECONDS]
        [--video-key videos --image-key images] [--dry-run]

Beside training_6k.parquet it writes

    training_6k.media.jsonl       a verdict per file: readable, frames, seconds, size, why not
    training_6k.checked.parquet   the rows whose media can all be used
    training_6k.unusable.jsonl    the others: row, id, field, file, reason

Files are decoded as training does it with the default budget, in processes that are ended when a file takes too long
or takes its decoder down. The verdicts grow file by file: after an interruption the same command goes on where it was.
A file is judged once, and again when it has changed, or when it timed out and --timeout is longer now. A row with not
as many media as marks in its prompt is unusable: training leaves it out.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from data_prep.common.command import key_arguments
from data_prep.common.fields import BadRow
from data_prep.common.sheet import ROW_GROUP, keep_rows
from data_prep.media_verdicts import Busy, MediaFile, Use, Verdict, VerdictList, check_marks, stamp_of, uses_of
from verl_care.data.marks import Columns
from verl_care.processes.helper import HelperDied, HelperNotStarted, HelperProcess, HelperTimedOut

WORKER = "data_prep.media_worker"
NO_FACTS = {"readable": False, "frames": None, "seconds": None, "width": None, "height": None}

Row = tuple[str | None, list[Use] | BadRow]
"""A row's id, and what it shows or what is wrong with it."""


class NoMedia(ValueError):
    """A parquet file that is not of verl's schema."""


@dataclass
class Report:
    """What became of the files and rows."""

    files: Counter[str]
    """kind -> files."""
    known: int
    """Files whose verdict still held."""
    damaged_lines: int
    """Lines of the verdict list that are no verdict."""
    unreadable: Counter[str]
    """Reason as a class -> files."""
    rows: int
    unusable_rows: int


class Judges:
    """So many helper processes at a time, one file each."""

    def __init__(self, jobs: int, seconds: float, worker: str = WORKER):
        self._seconds = float(seconds)
        self._helpers = [HelperProcess(worker, seconds) for _ in range(jobs)]
        self._idle: SimpleQueue[HelperProcess] = SimpleQueue()
        for helper in self._helpers:
            self._idle.put(helper)

    def __enter__(self) -> Judges:
        return self

    def __exit__(self, *_: object) -> None:
        for helper in self._helpers:
            helper.close()

    def judge(self, file: MediaFile) -> Verdict:
        """Raises:
        HelperNotStarted: if no file at all can be decoded here.
        """
        stamp = stamp_of(file.path)
        about: dict[str, Any] = {"kind": file.kind, "path": file.path, "limit_s": None}
        about |= stamp._asdict() if stamp else {"bytes": None, "mtime_ns": None}
        if stamp is None:
            return Verdict(**about, **NO_FACTS, why="does not exist, or cannot be opened")
        helper = self._idle.get()
        try:
            return Verdict(**about, **helper.ask(file._asdict()))
        except HelperTimedOut:
            about["limit_s"] = self._seconds
            return Verdict(**about, **NO_FACTS, why=f"timed out: not decoded in {self._seconds:g} s")
        except HelperDied as error:
            return Verdict(**about, **NO_FACTS, why=f"decoder died: {error}")
        finally:
            self._idle.put(helper)


def rows_of(parquet: Path, columns: Columns) -> Iterator[Row]:
    """Raises:
    pa.ArrowException, OSError: if this is no parquet file.
    NoMedia: if it has neither column of media, or not one that is named otherwise than in our schema.
    """
    file = pq.ParquetFile(parquet)
    names, media = file.schema_arrow.names, (columns.video, columns.image)
    missing = [name for name in media if name not in names]
    if len(missing) == len(media) or set(missing) - set(Columns()):
        mend = "--video-key and --image-key name the columns of media"
        raise NoMedia(f"has no column {' or '.join(missing)}, only {', '.join(names)}: {mend}")
    for batch in file.iter_batches(batch_size=ROW_GROUP, columns=[*columns, "extra_info.id"]):
        for row in batch.to_pylist():
            row_id = (row.get("extra_info") or {}).get("id")
            try:
                uses = list(uses_of(row, columns))
                check_marks(row, columns)
                yield row_id, uses
            except BadRow as bad:
                yield row_id, bad


def beside(parquet: Path, ending: str) -> Path:
    return parquet.with_name(f"{parquet.stem}.{ending}")


def check(
    parquet: Path,
    jobs: int,
    seconds: float,
    dry_run: bool = False,
    worker: str = WORKER,
    progress: Progress | None = None,
    *,
    columns: Columns = Columns(),  # noqa: B008 - a tuple
) -> Report:
    """Judge what has not been judged, then write the usable rows and the list of the others.

    Raises:
        pa.ArrowException, OSError: for a parquet file that cannot be read, or a folder that cannot be written.
        NoMedia: if it has no column of media, or not the one that was named.
        Busy: if another check of the same file is running.
        HelperNotStarted: if nothing can be decoded on this machine.
    """
    rows = list(rows_of(parquet, columns))
    files = list(dict.fromkeys(use.file for _, uses in rows if isinstance(uses, list) for use in uses))
    verdicts = VerdictList(beside(parquet, "media.jsonl"))
    with ExitStack() as stack:
        if not dry_run:
            stack.enter_context(verdicts)
        todo = [file for file in files if not verdicts.still_holds(file, seconds)]
        report = Report(
            files=Counter(file.kind for file in files),
            known=len(files) - len(todo),
            damaged_lines=verdicts.damaged,
            unreadable=Counter(),
            rows=len(rows),
            unusable_rows=0,
        )
        if dry_run:
            return report
        if todo:
            judges = stack.enter_context(Judges(min(jobs, len(todo)), seconds, worker))
            pool = stack.enter_context(ThreadPool(jobs))
            task = progress.add_task("decoding", total=len(files), completed=report.known) if progress else None
            for verdict in pool.imap_unordered(judges.judge, todo):
                verdicts.add(verdict)
                if progress and task is not None:
                    progress.advance(task)
        judged = (verdicts.get(file) for file in files)
        report.unreadable.update(v.why.split(":")[0] for v in judged if v.why)
        report.unusable_rows = _write_rows(parquet, rows, verdicts.get)
    return report


def _write_rows(parquet: Path, rows: list[Row], verdict_on: Callable[[MediaFile], Verdict]) -> int:
    """The list of the unusable rows, then the parquet file of the others; each whole or not at all."""
    objections = [_objection(uses, verdict_on) for _, uses in rows]
    listing = beside(parquet, "unusable.jsonl")
    partial = listing.with_name(listing.name + ".partial")
    try:
        with partial.open("w", encoding="utf-8") as lines:
            for number, ((row_id, _), objection) in enumerate(zip(rows, objections, strict=True)):
                if objection:
                    lines.write(json.dumps({"row": number, "id": row_id} | objection) + "\n")
        os.replace(partial, listing)
    finally:
        partial.unlink(missing_ok=True)
    keep_rows(parquet, beside(parquet, "checked.parquet"), (objection is None for objection in objections))
    return sum(objection is not None for objection in objections)


def _objection(uses: list[Use] | BadRow, verdict_on: Callable[[MediaFile], Verdict]) -> dict[str, str | None] | None:
    if isinstance(uses, BadRow):
        return {"field": uses.field, "file": None, "reason": uses.reason}
    for use in uses:
        if reason := verdict_on(use.file).objection(use):
            return {"field": use.column, "file": use.file.path, "reason": reason}
    return None


def print_report(report: Report, parquet: Path, dry_run: bool) -> None:
    kinds = ", ".join(f"{count:,} {kind}{'s' if count > 1 else ''}" for kind, count in sorted(report.files.items()))
    print(f"rows: {report.rows:,}")
    print(f"files: {kinds or 'none'}; judged before: {report.known:,}")
    if report.damaged_lines:
        print(f"lines of {beside(parquet, 'media.jsonl')} that are no verdict (cut off, say): {report.damaged_lines:,}")
    if dry_run:
        print(f"dry run: to judge: {report.files.total() - report.known:,}; nothing written")
        return
    for reason, count in report.unreadable.most_common():
        print(f"not readable: {count:,}: {ascii(reason)[1:-1]}")
    usable = report.rows - report.unusable_rows
    print(f"usable rows: {usable:,}, in {beside(parquet, 'checked.parquet')}")
    print(f"unusable rows: {report.unusable_rows:,}, in {beside(parquet, 'unusable.jsonl')}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parquet", type=Path, metavar="PARQUET")
    parser.add_argument("--jobs", type=_positive(int), default=len(os.sched_getaffinity(0)), help="files at a time")
    parser.add_argument("--timeout", type=_positive(float), default=60.0, metavar="SECONDS", help="for one file")
    key_arguments(parser)
    parser.add_argument("--dry-run", action="store_true", help="say how many files there are to judge; write nothing")
    args = parser.parse_args()
    shown = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    console = Console(stderr=True)
    try:
        with Progress(*shown, console=console, disable=not sys.stderr.isatty(), transient=True) as progress:
            keys = Columns.of(vars(args))
            report = check(args.parquet, args.jobs, args.timeout, args.dry_run, progress=progress, columns=keys)
    except (OSError, pa.ArrowException, NoMedia, Busy, HelperNotStarted) as error:
        print(f"{args.parquet}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: what was judged is kept, and the same command goes on from there", file=sys.stderr)
        return 130
    print_report(report, args.parquet, args.dry_run)
    return 0


def _positive(kind: type[int] | type[float]) -> Callable[[str], float]:
    def number(text: str) -> float:
        value = kind(text)
        if not 0 < value < 1e6:
            raise argparse.ArgumentTypeError(f"must be above 0: {text}")
        return value

    return number


if __name__ == "__main__":
    sys.exit(main())
