"""One conversion: rows kept, rejected and noticed."""

from __future__ import annotations

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
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from data_prep.common.fields import BadRow, object_of
from data_prep.common.output_folder import RECORD, refuse_foreign, replace_folder
from data_prep.common.reading import read_rows
from data_prep.common.sampling import sample
from data_prep.common.sheet import Lines, Sheet, keep_rows

Row = TypeVar("Row")

MOST_NOTICED = 100  # different unknown fields of a file
REJECTED, NOTICED = "rejected.jsonl", "noticed.jsonl"
UNKNOWN_FIELD = "is not a field that this converter knows; its value is not used"


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
        id_field: str | None,
        sample_rows: int | None = None,
    ) -> None:
        """As `convert_file`, of rows from anywhere: (line or number, row or BadRow) pairs.

        With `id_field` None ids may repeat, and ids and problem types be null, as in files that no converter wrote.
        """
        tally = self.tallies[source_name] = Tally()
        known, seen, keys = frozenset(known_fields), {}, []
        seed = self._settings.get("seed", 0)
        with Sheet(self._folder and self._folder / name, schema) as sheet, self._rejections() as reject:
            for line, row in numbered:
                try:
                    if isinstance(row, BadRow):
                        raise row
                    made = build(object_of(row), tally.rows)
                    info = made["extra_info"] or {}
                    row_id = info.get("id")
                    if id_field is not None and row_id in seen:
                        raise BadRow(id_field, f"was used by an earlier row: {row_id}, in line {seen[row_id]}")
                except BadRow as bad:
                    tally.rejected[bad.field, bad.reason.split(":")[0]] += 1
                    reject({"file": source_name, "line": line, "field": bad.field, "reason": bad.reason})
                    continue
                seen[row_id] = line
                key = info.get("problem_type") or "", info.get("source") or made["data_source"]
                tally.kept[key] += 1
                tally.notice(row.keys() - known, line)
                keys.append((*key, row_id))
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

    def _rejections(self) -> Lines:
        return Lines(self._folder and self._folder / REJECTED)

    def _finish(self, folder: Path) -> None:
        with Lines(folder / NOTICED) as note:
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


def _safe(text: str) -> str:
    """What a data file says, for a terminal: neither rich's markup nor control characters."""
    return ascii(text)[1:-1].replace("[", r"\[")
