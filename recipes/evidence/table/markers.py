"""Documents whose tables stand between markers; all other text is somebody's and is left as it is.

<!-- table: NAME -->
what is written by `python -m recipes.evidence.table`
<!-- end -->
"""

from __future__ import annotations

from collections.abc import Mapping

OPEN, CLOSE, BEHIND = "<!-- table: ", "<!-- end -->", " -->"


def filled(document: str, tables: Mapping[str, str]) -> str:
    """The document with the present text of each of its tables.

    Raises:
        ValueError: a marker without a table of that name, or without its end.
    """
    lines: list[str] = []
    inside: str | None = None
    for line in document.splitlines():
        opens = line.startswith(OPEN) and line.endswith(BEHIND)
        if inside is not None and opens:
            break
        if line == CLOSE:
            inside = None
        if inside is None:
            lines.append(line)
        if opens:
            inside = line[len(OPEN) : -len(BEHIND)]
            if inside not in tables:
                raise ValueError(f"there is no table {inside!r}; there are {', '.join(tables)}: mend the marker")
            lines += ["", tables[inside], ""]
    if inside is not None:
        raise ValueError(f"the table {inside!r} has no `{CLOSE}` before the next one begins: add it behind the table")
    return "\n".join(lines) + "\n"


def names_of(document: str) -> list[str]:
    """Which tables a document has a place for."""
    marked = [line for line in document.splitlines() if line.startswith(OPEN) and line.endswith(BEHIND)]
    return [line[len(OPEN) : -len(BEHIND)] for line in marked]
