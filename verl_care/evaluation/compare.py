"""python -m verl_care.evaluation compare RUN_A RUN_B: two runs on the questions that both answered."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

DESCRIPTION = "two runs on the same questions: differences with intervals, exact tests, wins and losses"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from verl_care.evaluation.scoring.options import add_shared_arguments

    parser.add_argument("run_a", type=Path, metavar="RUN_A", help="folder that care_evaluate wrote")
    parser.add_argument("run_b", type=Path, metavar="RUN_B", help="another; B - A is shown")
    add_shared_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    from verl_care.evaluation.scoring import layouts, options
    from verl_care.evaluation.scoring.comparison import compare

    rules, how = options.rules_of(arguments), options.bootstrap_of(arguments)
    folders = (arguments.run_a, arguments.run_b)
    name_a, name_b = options.names_of(folders)
    a, b = (options.read_run(folder, rules) for folder in folders)
    found = compare(a, b, how, options.dimensions_of(arguments, (a, b)))
    if not any(group.scores for group in found.groups):
        raise ValueError(
            f"{name_a} and {name_b} share no question that is scored: {len(found.only_a)} are only in the first, "
            f"{len(found.only_b)} only in the second, {len(found.differ)} differ under one id"
        )
    settings = _differing_settings(*folders)
    tables = list(layouts.comparison_tables(name_a, name_b, found, settings, arguments.parser))
    records = [{"run_a": name_a, "run_b": name_b, **asdict(one)} for one in found.groups]
    document = {"run_a": name_a, "run_b": name_b, **asdict(found)}
    document["settings"] = [{"setting": setting, "a": of_a, "b": of_b} for setting, of_a, of_b in settings]
    options.write(arguments, tables, records, {**options.basis(rules, how), **document})
    return 0


def _differing_settings(run_a: Path, run_b: Path) -> list[tuple[str, str, str]]:
    """(name, of A, of B) of every setting in which two runs differ; "-" where one has none."""
    from verl_care.evaluation.rows import SETTINGS
    from verl_care.evaluation.scoring.tables import flattened

    files = (run_a / SETTINGS, run_b / SETTINGS)
    a, b = (flattened(json.loads(file.read_text())) if file.exists() else {} for file in files)
    names = sorted(a.keys() | b.keys())
    return [(name, str(a.get(name, "-")), str(b.get(name, "-"))) for name in names if a.get(name) != b.get(name)]
