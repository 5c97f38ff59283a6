"""One conversion: rows kept, rejected and noticed, and what of it is on disk, which is everything or nothing."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from data_prep.common.fields import BadRow, object_of
from data_prep.common.reading import read_rows
from data_prep.common.sampling import sample

Row = TypeVar("Row")

ROW_GROUP = 5_000  # rows; what is in memory at a time
MOST_NOTICED = 100  # different unknown fields of a file
RECORD = "conversion.json"
REJECTED, NOTICED = "rejected.jsonl", "noticed.jsonl"
VERDICTS = ".media.jsonl"
ADDED = (VERDICTS, ".checked.parquet", ".unusable.jsonl")  # beside a parquet file, by check_media
UNKNOWN_FIELD = "is not a field that this converter knows; its value is not used"


class BadOutput(ValueError):
    """An output folder that cannot be written, with the reason."""


@dataclass
class Tally:
    """What became of one file's rows."""

    kept: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(problem type, source) -> rows."""
    rejected: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(field, reason as a class: up to its first colon) -> rows."""
    noticed: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    """(field, remark) -> [first line, rows]; these rows are kept."""
    not_sampled: int = 0

    @property
    def rows(self) -> int:
        return self.kept.total()

    def notice(self, unknown_fields: Iterable[str], line: int) -> None:
        for name in unknown_fields:
            key = name, UNKNOWN_FIELD
            if key in self.noticed or len(self.noticed) < MOST_NOTICED:
                self.noticed.setdefault(key, [line, 0])[1] += 1


Build = Callable[[Mapping[str, Any], int], dict[str, Any]]
"""(row as read, number of rows kept so far) -> row of the schema; raises `BadRow`. The row it returns has a
`data_source` and an `extra_info` with `id` and `problem_type`, and `source` if there are several."""


class Conversion:
    """Writes parquet files and rejected.jsonl into a folder beside `out`, which becomes `out` when all is done.

        with Conversion(out, {"seed": 0}) as conversion:
            conversion.convert_file(path, "training_6k.parquet", RL_SCHEMA, build, known_fields, id_field="sample_id")
        conversion.print_summary(Console())

    Left by an exception (Ctrl-C too), it leaves `out` as it was. An `out` that an earlier conversion wrote is replaced;
    one that holds anything else is refused. With `dry_run` nothing is written at all.
    """

    def __init__(self, out: Path, settings: Mapping[str, Any], dry_run: bool = False) -> None:
        self.out, self.dry_run = Path(os.path.realpath(out)), dry_run
        self.tallies: dict[str, Tally] = {}
        self._settings = dict(settings)
        self._folder: Path | None = None
        self._progress = Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True)

    def __enter__(self) -> Conversion:
        refuse_foreign(self.out)
        if not self.dry_run:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            self._folder = Path(tempfile.mkdtemp(dir=self.out.parent, prefix=f".{self.out.name}.unfinished-"))
            self._folder.chmod(0o755)  # mkdtemp makes it for this user alone
            for name in (REJECTED, NOTICED):
                (self._folder / name).touch()
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        self._progress.stop()
        if self._folder is None:
            return
        try:
            if kind is None:
                self._finish(self._folder)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def convert_file(
        self,
        path: Path,
        name: str,
        schema: pa.Schema,
        build: Build,
        known_fields: Collection[str],
        id_field: str,
        sample_rows: int | None = None,
    ) -> None:
        """Convert one JSON or JSON Lines file to `name`.

        `known_fields` are those that the layout has; others are noticed. `sample_rows` keeps that many, with the mix of
        sources of the rows that can be used.

        Raises:
            BadFile: if the file's structure is broken.
        """
        with self._progress.open(path, "rb", description=path.name) as file:
            rows = read_rows(file, path)
            self.convert_rows(path.name, rows, name, schema, build, known_fields, id_field, sample_rows)

    def convert_rows(
        self,
        source_name: str,
        numbered: Iterable[tuple[int, Any]],
        name: str,
        schema: pa.Schema,
        build: Build,
        known_fields: Collection[str],
        id_field: str,
        sample_rows: int | None = None,
    ) -> None:
        """As `convert_file`, of rows from anywhere: (line or number, row or BadRow) pairs."""
        tally = self.tallies[source_name] = Tally()
        known, seen, keys = frozenset(known_fields), {}, []
        seed = self._settings.get("seed", 0)
        with Sheet(self._folder and self._folder / name, schema) as sheet, self._rejections() as reject:
            for line, row in numbered:
                try:
                    if isinstance(row, BadRow):
                        raise row
                    made = build(object_of(row), tally.rows)
                    info = made["extra_info"]
                    if info["id"] in seen:
                        raise BadRow(id_field, f"was used by an earlier row: {info['id']}, in line {seen[info['id']]}")
                except BadRow as bad:
                    tally.rejected[bad.field, bad.reason.split(":")[0]] += 1
                    reject({"file": source_name, "line": line, "field": bad.field, "reason": bad.reason})
                    continue
                seen[info["id"]] = line
                key = info["problem_type"], info.get("source") or made["data_source"]
                tally.kept[key] += 1
                tally.notice(row.keys() - known, line)
                keys.append((*key, info["id"]))
                sheet.add(made)
        if sample_rows is not None and sample_rows < len(keys):
            chosen = sample([(source, row_id) for _, source, row_id in keys], sample_rows, seed)
            tally.not_sampled = len(keys) - sum(chosen)
            tally.kept = Counter(key[:2] for key, taken in zip(keys, chosen, strict=True) if taken)
            if self._folder is not None:
                keep_rows(self._folder / name, self._folder / name, chosen)

    def tracked(self, rows: Iterable[Row], total: int, description: str) -> Iterable[Row]:
        """`rows`, moving the progress bar on."""
        return self._progress.track(rows, total, description=description)

    def keep_file(self, name: str, content: bytes) -> str:
        """Write a file into the output, once if it is named again; returns the path that it will have."""
        if self._folder is not None and not (path := self._folder / name).exists():
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        return os.path.abspath(self.out / name)

    def _rejections(self) -> _Lines:
        return _Lines(self._folder and self._folder / REJECTED)

    def _finish(self, folder: Path) -> None:
        with _Lines(folder / NOTICED) as note:
            for name, tally in self.tallies.items():
                for (unknown, reason), (line, rows) in tally.noticed.items():
                    note({"file": name, "line": line, "field": unknown, "reason": reason, "rows": rows})
        files = {
            name: {"rows": t.rows, "rejected": t.rejected.total(), "not_sampled": t.not_sampled}
            for name, t in self.tallies.items()
        }
        written = sorted(path.name for path in folder.iterdir())
        record = {"settings": self._settings, "files": files, "written": [*written, RECORD]}
        (folder / RECORD).write_text(json.dumps(record, indent=1, default=str) + "\n", encoding="utf-8")
        replace_folder(folder, self.out)

    def print_summary(self, console: Console) -> None:
        """Rows per type and source, rows dropped and why, fields that are not known."""
        counts = Table("file", "problem type", "source", "rows", title="Converted", title_justify="left")
        dropped = Table("file", "field", "why", "rows", title=f"Left out ({REJECTED} names each)", title_justify="left")
        for table in (counts, dropped):
            table.columns[-1].justify = "right"
        for name, tally in self.tallies.items():
            for (kind, source), rows in sorted(tally.kept.items()):
                counts.add_row(_safe(name), _safe(kind), _safe(source), f"{rows:,}")
            counts.add_row(_safe(name), "", "all", f"{tally.rows:,}", style="bold")
            for (bad, why), rows in tally.rejected.most_common():
                dropped.add_row(_safe(name), _safe(bad), _safe(why), f"{rows:,}")
            if tally.not_sampled:
                dropped.add_row(_safe(name), "", "not in the sample", f"{tally.not_sampled:,}")
        console.print(counts)
        if dropped.row_count:
            console.print(dropped)
        for name, tally in self.tallies.items():
            for (unknown, reason), (line, rows) in tally.noticed.items():
                text = f"{name}: {unknown!a} {reason} ({rows:,} rows, first in line {line})"
                console.print(text, markup=False, highlight=False)
        console.print("dry run: nothing written" if self.dry_run else f"written to {self.out}", markup=False)


class Sheet:
    """A parquet file that is written while rows come in; `path` None: the rows are checked against the schema only."""

    def __init__(self, path: Path | None, schema: pa.Schema) -> None:
        self._schema, self._rows = schema, []
        self._writer = pq.ParquetWriter(path, schema) if path else None

    def __enter__(self) -> Sheet:
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        if self._writer:
            self._writer.close()

    def add(self, row: dict[str, Any]) -> None:
        self._rows.append(row)
        if len(self._rows) == ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        batch, self._rows = pa.RecordBatch.from_pylist(self._rows, schema=self._schema), []
        if self._writer and batch.num_rows:
            self._writer.write_batch(batch)


class _Lines:
    """Appends JSON lines to a file, or nowhere."""

    def __init__(self, path: Path | None) -> None:
        self._file = path.open("a", encoding="utf-8") if path else None

    def __enter__(self) -> Callable[[Mapping[str, Any]], None]:
        return self._write

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()

    def _write(self, record: Mapping[str, Any]) -> None:
        if self._file:
            self._file.write(json.dumps(record) + "\n")  # ASCII: lone surrogates and control characters escaped


def _safe(text: str) -> str:
    """What a data file says, for a terminal: neither rich's markup nor control characters."""
    return ascii(text)[1:-1].replace("[", r"\[")


def keep_rows(source: Path, target: Path, kept: Iterable[bool]) -> int:
    """Copy the rows of a parquet file that `kept` says, row group by row group; returns how many.

    `target` is written whole or not at all, and may be `source`.

    Raises:
        ValueError: if `kept` ends before the rows do.
    """
    partial = target.with_name(target.name + ".partial")
    file, mask, rows = pq.ParquetFile(source), iter(kept), 0
    try:
        with pq.ParquetWriter(partial, file.schema_arrow) as writer:
            for batch in file.iter_batches(batch_size=ROW_GROUP):
                chosen = list(itertools.islice(mask, batch.num_rows))
                if len(chosen) < batch.num_rows:
                    raise ValueError(f"a verdict is missing for some of {file.metadata.num_rows} rows of {source}")
                batch = batch.filter(pa.array(chosen, pa.bool_()))
                rows += batch.num_rows
                if batch.num_rows:
                    writer.write_batch(batch)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    return rows


def refuse_foreign(out: Path) -> None:
    """`out` will be replaced: so it must be empty, or hold what a conversion wrote and nothing else.

    Raises:
        BadOutput: if it holds anything else.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise BadOutput(f"--out {out} is a file; name a folder")
    try:
        written = set(json.loads((out / RECORD).read_text(encoding="utf-8"))["written"])
    except (OSError, ValueError, KeyError, TypeError):
        written = set()
    names = (path.name for path in out.iterdir())
    foreign = sorted(name for name in names if name not in written and not name.endswith(ADDED))
    if foreign:
        raise BadOutput(
            f"--out {out} holds {', '.join(foreign[:5])}{' and more' if len(foreign) > 5 else ''}, which no conversion "
            "wrote, and a conversion replaces its folder: name another folder, or empty this one"
        )


def replace_folder(new: Path, out: Path) -> None:
    """`new` takes the place of `out`, whose files go; but verdicts are on media, which stay."""
    refuse_foreign(out)  # again: a conversion takes minutes
    for verdicts in out.glob(f"*{VERDICTS}"):
        shutil.copy2(verdicts, new)
    old = new.with_name(new.name + ".old")
    if out.exists():
        os.rename(out, old)
    try:
        os.rename(new, out)
    except BaseException:
        if old.exists():
            os.rename(old, out)
        raise
    shutil.rmtree(old, ignore_errors=True)
