"""See what a model did: one HTML page with the curves, the groups, the frames and what each reward was for.

RUN is the folder of a training run (with its metrics.jsonl) or of an evaluation; several stand side by side.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from verl_care.report import page, serve


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        return _report(options)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m verl_care.report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write the page (RUN/report.html)")
    parser.add_argument(
        "--serve",
        nargs="?",
        type=_port,
        const=serve.PORT,
        metavar="PORT",
        help=f"a live page on this machine alone, that follows the runs; 0 takes any free port ({serve.PORT})",
    )
    parser.add_argument(
        "--figures", type=Path, metavar="DIR", help="pictures for papers into DIR, PNG and PDF; no page"
    )
    parser.add_argument(
        "--groups-per-step",
        type=int,
        metavar="N",
        help="at most N groups of each step on the page (all that were kept)",
    )
    parser.add_argument(
        "--data",
        nargs="+",
        type=_file,
        default=(),
        metavar="FILE",
        help="parquet files with the questions of evaluations, for their clips and images; a training names its own",
    )
    return parser


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 1 << 16):
        raise argparse.ArgumentTypeError(f"{text!r} is no port: give a number up to 65535, or name RUN before --serve")
    return int(text)


def _file(text: str) -> Path:
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"{text!r} is no file: give parquet files, and name RUN before --data")
    return Path(text)


def _report(options: argparse.Namespace) -> int:
    from verl_care.report import collect  # it imports what reads and draws pictures: not for --help

    if options.figures is not None:
        from verl_care.report import figures

        for path in figures.write(options.runs, options.figures):
            print(path)
        return 0
    shown = {"groups_per_step": options.groups_per_step, "data": options.data}
    if options.serve is not None:
        try:
            source = collect.Collector(options.runs, **shown, live=True)
            serve.serve(source, options.serve)
        except OSError as error:
            if error.filename is None:  # of the socket, and not of a file
                raise OSError(f"port {options.serve} cannot be used ({error}): --serve 0 takes any free one") from error
            raise
        return 0
    out = options.out or options.runs[0] / "report.html"
    size = page.write(collect.collect(options.runs, **shown), out)
    print(f"page       {out.absolute()} ({size / 1e6:.1f} MB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
