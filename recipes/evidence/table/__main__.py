"""Tables and figures of the evidence, from the results of its runs alone.

    python -m recipes.evidence.table [--results FOLDER] [--document FILE] [--check]

Writes the tables between a document's markers (`<!-- table: NAME -->`), and the figures beside it: of the committed
results docs/evidence.md, README.md and docs/evidence-hole.md; of those of another folder, evidence.md in it. `--check`
writes nothing: it ends with 1 where a document's tables are not those of the results.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable
from pathlib import Path

from recipes.evidence.table import (
    bonus,
    committed,
    differences,
    figures,
    goal,
    grammar,
    levels,
    likelihood,
    link,
    markers,
    paper,
    seeds,
    strays,
)
from recipes.evidence.table.committed import Committed

REPOSITORY = Path(__file__).parents[3]
EVIDENCE, DOCS = REPOSITORY / "recipes/evidence", REPOSITORY / "docs"
PAGES = {
    EVIDENCE / "results": [DOCS / "evidence.md", REPOSITORY / "README.md"],
    EVIDENCE / "results_hole": [DOCS / "evidence-hole.md"],
}
"""Committed results -> the documents with their tables; figures stand beside the first."""
NONE_YET = "*There are no results yet.*"

Table = Callable[[Committed], str]


def of_all_variants(make: Table) -> Table:
    """Of the seeds that most variants have; before it, where some seeds are not yet made for all, of the variants that
    have them all."""

    def made(found: Committed) -> str:
        if found.shared.seeds == found.seeds:
            return make(found.shared)
        *most, last = map(str, found.shared.seeds)
        seeds_of = f"Of seeds {', '.join(most)} and {last}" if most else f"Of seed {last}"
        return "\n\n".join(
            [make(found.complete), f"{seeds_of}, all variants that have runs so far:", make(found.shared)]
        )

    return made


TABLES: dict[str, Table] = {
    "summary": paper.summary,
    "headline": levels.headline,
    "seeds": seeds.seeds,
    "goal": goal.goal,
    "care": differences.care,
    "sampled": of_all_variants(lambda found: levels.levels(found, "sampled")),
    "greedy": of_all_variants(lambda found: levels.levels(found, "greedy")),
    "training": of_all_variants(levels.training),
    "variants-sampled": of_all_variants(lambda found: differences.variants(found, "sampled")),
    "variants-greedy": of_all_variants(lambda found: differences.variants(found, "greedy")),
    "paper": of_all_variants(paper.order),
    "methods": differences.methods,
    "reference": differences.reference,
    "readings": differences.readings,
    "bonus": bonus.bonus,
    "likelihood": likelihood.likelihood,
    "strays": strays.strays,
    "grammar": grammar.grammar,
    "link": of_all_variants(link.link),
    "made-with": levels.made_with,
}


def tables(found: Committed | None) -> dict[str, str]:
    """Name -> Markdown; of no results all say that there are none."""
    return {name: make(found) if found else NONE_YET for name, make in TABLES.items()}


def blank() -> str:
    """A document of all tables, for results that are not the committed ones."""
    return "# Evidence\n" + "".join(f"\n{markers.OPEN}{name}{markers.BEHIND}\n{markers.CLOSE}\n" for name in TABLES)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, help="folder of the runs' JSON files (default: the committed ones)")
    parser.add_argument("--document", type=Path, help="Markdown with markers; made if it is not there")
    parser.add_argument("--check", action="store_true", help="only say whether the documents are up to date")
    arguments = parser.parse_args()
    wanted = [arguments.results.resolve()] if arguments.results else list(PAGES)
    codes = [_page(results, arguments.document, arguments.check) for results in wanted]
    return max(codes)


def _page(results: Path, document: Path | None, check: bool) -> int:
    """Write or check the documents of one folder of results; 0 where all is well."""
    documents = [document] if document else PAGES.get(results, [results / "evidence.md"])
    present = {path: path.read_text(encoding="utf-8") if path.exists() else blank() for path in documents}
    try:
        found = committed.read(results)
        made = tables(found)
        wanted = {path: markers.filled(text, made) for path, text in present.items()}
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if found is None and results not in PAGES:
        print(f"{results} holds no results: --results is the folder of VARIANT_SEED.json", file=sys.stderr)
        return 2
    if check:
        differing = [path for path in documents if _differs(path, present[path], wanted[path])]
        return int(bool(differing))
    for path in documents:
        path.write_text(wanted[path], encoding="utf-8")
    print(made["headline"], made["goal"], *documents, sep="\n\n")
    for path in figures.write(found, documents[0]) if found else ():
        print(path)
    return 0


def _differs(document: Path, present: str, wanted: str) -> bool:
    """And says where."""
    changes = difflib.unified_diff(present.splitlines(), wanted.splitlines(), str(document), "results", lineterm="")
    print(*changes, sep="\n")
    if present != wanted:
        print(f"{document} is not what the results say: python -m recipes.evidence.table", file=sys.stderr)
    return present != wanted


if __name__ == "__main__":
    sys.exit(main())
