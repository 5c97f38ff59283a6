"""Tables of scores, and the four ways to write them.

What stands in a cell may come from a data file or a model: it is shown, and never read as markup, formula or control
sequence.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from verl_care.evaluation.scoring.intervals import Estimate

Cell = str | int | float | Estimate | None
"""A float is a share and written in percent; so is an Estimate, with its interval."""

_WIDEST, _LONGEST_NOTE = 120, 1000  # characters
_MARKDOWN = str.maketrans({c: f"\\{c}" for c in "\\`*_[]<>|~#"} | {"&": "&amp;"})
_FORMULA = ("=", "+", "-", "@")


@dataclass(frozen=True)
class Table:
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()


def printable(text: str, widest: int = _WIDEST) -> str:
    """One line without control, direction or private characters, which are written as their escapes."""
    shown = text if len(text) <= widest else f"{text[:widest]}..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)


def shown(cell: Cell) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, Estimate):
        return f"{100 * cell.mean:.1f} [{100 * cell.low:.1f}, {100 * cell.high:.1f}]"
    return f"{100 * cell:.1f}" if isinstance(cell, float) else printable(str(cell))


def as_text(tables: Iterable[Table]) -> str:
    """For a terminal, as wide as the tables are."""
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    out = io.StringIO()
    console = Console(file=out, width=10_000, color_system=None, highlight=False, markup=False, emoji=False)
    for table in tables:
        drawn = RichTable(box=box.SIMPLE_HEAD, title=Text(printable(table.title)), title_justify="left")
        for place, column in enumerate(table.columns):
            drawn.add_column(Text(printable(column)), justify="right" if place else "left", no_wrap=True)
        for row in table.rows:
            drawn.add_row(*(Text(shown(cell)) for cell in row))
        console.print(drawn)
        for note in table.notes:
            console.print(Text(f"  {printable(note, _LONGEST_NOTE)}"))
        console.print()
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def as_markdown(tables: Iterable[Table]) -> str:
    """GitHub's tables; spaces that indent a first cell become no-break spaces."""
    parts = []
    for table in tables:
        head = [_markdown(column) for column in table.columns]
        rule = ["---", *["---:"] * (len(head) - 1)]
        body = [[_markdown(shown(cell)) for cell in row] for row in table.rows]
        lines = [f"| {' | '.join(cells)} |" for cells in (head, rule, *body)]
        notes = [f"* {_markdown(note, _LONGEST_NOTE)}" for note in table.notes]
        parts.append("\n".join([f"### {_markdown(table.title)}", "", *lines, *([""] if notes else []), *notes]))
    return "\n\n".join(parts) + "\n"


def _markdown(text: str, widest: int = _WIDEST) -> str:
    escaped = printable(text, widest).translate(_MARKDOWN)
    indent = len(escaped) - len(escaped.lstrip(" "))
    return "\u00a0" * indent + escaped[indent:]


def as_csv(records: Sequence[Mapping[str, Any]]) -> str:
    """One line a record, columns in the order of their first appearance; shares are fractions.

    A spreadsheet runs a cell that begins like a formula: such texts get an apostrophe in front.
    """
    flat = [flattened(record) for record in records]
    named = dict.fromkeys(name for record in flat for name in record)
    nested = {name.rpartition(".")[0] for name in named}  # of some records a mapping, of others None
    columns = [name for name in named if name not in nested]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([_inert(name) for name in columns])
    for record in flat:
        values = (record.get(name) for name in columns)
        writer.writerow([_inert(value) if isinstance(value, str) else value for value in values])
    return out.getvalue()


def flattened(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"accuracy": {"exact": 1}} -> {"accuracy.exact": 1}."""
    flat: dict[str, Any] = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            flat.update(flattened(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _inert(text: str) -> str:
    text = printable(text)
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text
