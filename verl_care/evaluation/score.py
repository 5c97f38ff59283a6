"""python -m verl_care.evaluation score RUN ...: accuracy and consistency of an evaluation's answers, in tables."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

DESCRIPTION = "accuracy by level, domain and type, with intervals, format and consistency beside it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from verl_care.evaluation.scoring.options import add_shared_arguments

    parser.add_argument("run_folders", nargs="+", type=Path, metavar="RUN", help="folder that care_evaluate wrote")
    parser.add_argument("--layout", choices=("standard", "published"), default="standard")
    parser.add_argument("--with-published", action="store_true", help="with --layout published: the paper's rows, too")
    add_shared_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    if arguments.with_published and arguments.layout != "published":
        raise ValueError("--with-published adds the paper's rows to --layout published: give that layout, too")
    (_published if arguments.layout == "published" else _standard)(arguments)
    return 0


def _standard(arguments: argparse.Namespace) -> None:
    from verl_care.evaluation.scoring import layouts, options, summary

    rules, how = options.rules_of(arguments), options.bootstrap_of(arguments)
    tables, records, runs = [], [], []
    names = options.names_of(arguments.run_folders)
    for name, folder in zip(names, arguments.run_folders, strict=True):
        responses = options.read_run(folder, rules)
        found = summary.summaries(responses, how, options.dimensions_of(arguments, [responses]))
        vsi_bench, failures = summary.vsi_bench_score(responses, how), summary.failures_of(responses.rows)
        tables += layouts.score_tables(name, found, vsi_bench, failures, responses.dropped, arguments.parser)
        records += [{"run": name, **asdict(one)} for one in found]
        totals = {
            group.benchmark: asdict(summary.released_totals(responses, mask_N))
            for group, mask_N in summary.groups_of(responses.rows, ())
        }
        runs.append(
            {
                "run": name,
                "rows_left_out": responses.dropped,
                "groups": [asdict(one) for one in found],
                "vsi_bench": asdict(vsi_bench) if vsi_bench else None,
                "released_totals": totals,
                "missing": [{"reason": reason, "responses": count} for reason, count in failures],
            }
        )
    options.write(arguments, tables, records, {**options.basis(rules, how), "runs": runs})


def _published(arguments: argparse.Namespace) -> None:
    from verl_care.evaluation.published import figures
    from verl_care.evaluation.scoring import options
    from verl_care.evaluation.scoring.published_layout import Entry, entries_of, published_tables

    rules, how = options.rules_of(arguments), options.bootstrap_of(arguments)
    entries = [Entry(figure, published=True) for figure in figures()] if arguments.with_published else []
    names = options.names_of(arguments.run_folders)
    for name, folder in zip(names, arguments.run_folders, strict=True):
        entries += entries_of(name, options.read_run(folder, rules), arguments.parser, how)
    tables = list(published_tables(entries))
    if not tables:
        raise ValueError("the runs hold no question of SEED-Bench-R1 or the six benchmarks: --layout standard has them")
    records = [
        {**asdict(entry.figure), **{k: v for k, v in asdict(entry).items() if k != "figure"}} for entry in entries
    ]
    document = {**options.basis(rules, how), "parser": arguments.parser, "figures": records}
    options.write(arguments, tables, records, document)
