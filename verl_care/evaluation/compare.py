"""python -m verl_care.evaluation compare RUN_A RUN_B: two runs on the questions that both answered."""

from __future__ import annotations

import argparse
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
    found = compare(a, b, how, arguments.by)
    if not found.groups:
        raise ValueError(
            f"{name_a} and {name_b} share no question that is scored: {len(found.only_a)} are only in the first, "
            f"{len(found.only_b)} only in the second, {len(found.differ)} differ under one id"
        )
    tables = list(layouts.comparison_tables(name_a, name_b, found, arguments.parser))
    records = [{"run_a": name_a, "run_b": name_b, **asdict(one)} for one in found.groups]
    options.write(
        arguments, tables, records, {**options.basis(rules, how), "run_a": name_a, "run_b": name_b, **asdict(found)}
    )
    return 0
