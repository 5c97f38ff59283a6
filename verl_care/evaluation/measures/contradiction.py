"""`contradiction RUN`: does each reasoning conclude in the option that it answers? By rule, in seconds."""

from __future__ import annotations

import argparse
from pathlib import Path

from tqdm import tqdm

from verl_care.consistency_measures.contradiction import contradiction
from verl_care.evaluation.measures.folder import NO_RESPONSE, to_measure
from verl_care.evaluation.rows import Measured, Row, append_measures

DESCRIPTION = "whether each reasoning concludes in the option that it answers, by rule"
NAME = "contradiction"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_folder", metavar="RUN", type=Path, help="folder of an evaluation")


def run(arguments: argparse.Namespace) -> int:
    measured = [measure(row) for row in tqdm(to_measure(arguments.run_folder, NAME), desc=NAME, unit="answer")]
    append_measures(arguments.run_folder, NAME, measured)
    unknown = sum(found.value is None for found in measured)
    print(f"{len(measured)} answers measured, {unknown} of them unknown")
    return 0


def measure(row: Row) -> Measured:
    if row.response is None:
        return Measured(row.key, None, NO_RESPONSE)
    if not row.options:
        return Measured(row.key, None, "no options")
    value = contradiction(row.response, row.options)
    return Measured(row.key, value, None if value is not None else "no single conclusion")
