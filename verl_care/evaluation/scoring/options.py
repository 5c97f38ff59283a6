"""What `score` and `compare` share: their options, and how a result is written."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

from verl_care.evaluation.rows import read_measures, read_rows
from verl_care.evaluation.scoring.intervals import Bootstrap
from verl_care.evaluation.scoring.responses import Responses, collect
from verl_care.evaluation.scoring.rules import AS_RELEASED, PARSERS, Rules
from verl_care.evaluation.scoring.summary import DIMENSIONS
from verl_care.evaluation.scoring.tables import Table, as_csv, as_markdown, as_text

SCHEMA = 1
_HELP = {
    "failures": "rows without a response: wrong (default), left out, or left out with the rest of their batch of four",
    "open_answers": "OCR, free-form, math: not scored (default), graded as in training, or wrong",
    "relative": "mean relative accuracy by the released arithmetic (default) or VSI-Bench's own",
    "no_block": "without a closed answer block: the whole response is the answer (default), or it is wrong",
}


def add_shared_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=("text", "markdown", "json", "csv"), default="text")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write there instead of printing")
    parser.add_argument("--parser", choices=PARSERS, default="exact", help="whose numbers come first; both are shown")
    parser.add_argument(
        "--by",
        nargs="*",
        metavar="TAG",
        help=f"what to divide by, instead of {' '.join(DIMENSIONS)}: also dataset, scenario, source",
    )
    rules = parser.add_argument_group("rules", "deviations from the released evaluation, and back")
    rules.add_argument("--as-released", action="store_true", help="failures and open answers as released")
    hints = get_type_hints(Rules)
    for field in fields(Rules):
        option = f"--{field.name.replace('_', '-')}"
        rules.add_argument(option, choices=get_args(hints[field.name]), help=_HELP[field.name])
    bootstrap = parser.add_argument_group("intervals")
    bootstrap.add_argument("--resamples", type=int, default=Bootstrap.resamples)
    bootstrap.add_argument("--seed", type=int, default=Bootstrap.seed)


def rules_of(arguments: argparse.Namespace) -> Rules:
    given = {field.name: getattr(arguments, field.name) for field in fields(Rules)}
    base = AS_RELEASED if arguments.as_released else Rules()
    return replace(base, **{name: value for name, value in given.items() if value is not None})


def bootstrap_of(arguments: argparse.Namespace) -> Bootstrap:
    """Raises: ValueError for fewer than 100 resamples, whose tails hold nothing, and for a seed below 0."""
    if arguments.resamples < 100 or arguments.seed < 0:
        raise ValueError(
            f"--resamples is {arguments.resamples} and --seed {arguments.seed}: give at least 100 resamples, "
            "since 2.5 % of them lie beyond each end of an interval, and a seed from 0 on"
        )
    return Bootstrap(resamples=arguments.resamples, seed=arguments.seed)


def dimensions_of(arguments: argparse.Namespace, runs: Iterable[Responses]) -> Sequence[str]:
    """Raises: ValueError for a tag asked for that no row has."""
    if arguments.by is None:
        return DIMENSIONS
    known = {"dataset", *DIMENSIONS} | {tag for run in runs for row in run.rows for tag in row.tags}
    for tag in arguments.by:
        if tag not in known:
            raise ValueError(f"--by {tag}: no row has such a tag; there are {', '.join(sorted(known))}")
    return arguments.by


def read_run(run: Path, rules: Rules) -> Responses:
    """Raises: ValueError for a run in which nothing is left to score."""
    responses = collect(read_rows(run), read_measures(run), rules)
    if not responses.rows:
        why = (
            f"all {responses.dropped} rows are failures that --failures leaves out" if responses.dropped else "no rows"
        )
        raise ValueError(f"{run} holds nothing to score: {why}")
    return responses


def names_of(runs: Sequence[Path]) -> list[str]:
    """Short names of runs, whole paths where short ones are alike."""
    short = [run.resolve().name for run in runs]
    return short if len(set(short)) == len(short) else [str(run) for run in runs]


def basis(rules: Rules, how: Bootstrap) -> dict[str, Any]:
    """What every JSON result says of itself."""
    return {"schema": SCHEMA, "rules": asdict(rules), "bootstrap": asdict(how)}


def write(
    arguments: argparse.Namespace,
    tables: Sequence[Table],
    records: Sequence[Mapping[str, Any]],
    document: Mapping[str, Any],
) -> None:
    if arguments.format == "json":
        text = json.dumps(document, indent=2, allow_nan=False) + "\n"
    elif arguments.format == "csv":
        text = as_csv(records)
    else:
        text = as_markdown(tables) if arguments.format == "markdown" else as_text(tables)
    if arguments.out is None:
        sys.stdout.write(text)
        return
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(text, encoding="utf-8")
    print(f"written to {arguments.out}")
