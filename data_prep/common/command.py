"""The command line that converters share."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from data_prep.common.conversion import Conversion
from data_prep.common.output_folder import BadOutput
from data_prep.common.reading import BadFile
from verl_care.data.marks import Columns

PROMPT_STYLES = ("released", "plain")


def converter_arguments(
    description: str | None, draws: bool = True, media_files: bool = True
) -> argparse.ArgumentParser:
    """`draws`, `media_files`: has the converter anything to draw, and files of media to look for?"""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="replaced whole, or left as it was")
    if draws:
        parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn")
    parser.add_argument("--prompt", choices=PROMPT_STYLES, default="released", help="plain: question and options only")
    parser.add_argument("--dry-run", action="store_true", help="check and count; write nothing")
    if media_files:
        parser.add_argument(
            "--no-media-check", action="store_true", help="do not look whether clips and images are there"
        )
    return parser


def key_arguments(parser: argparse.ArgumentParser) -> None:
    """For media in other columns than those of our schema; `Columns.of` reads them from the parsed arguments."""
    for kind, default in (("video", Columns().video), ("image", Columns().image)):
        parser.add_argument(
            f"--{kind}-key", default=default, metavar="COLUMN", help=f"data.{kind}_key, if not %(default)s"
        )


def run(convert: Callable[[], Conversion]) -> int:
    """Call `convert` and print what became of the rows.

    Returns the exit status: 0, 2 for input or output that cannot be used, 130 after Ctrl-C.
    """
    try:
        conversion = convert()
    except (BadFile, BadOutput, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: nothing was written", file=sys.stderr)
        return 130
    width = None if sys.stdout.isatty() else int(os.environ.get("COLUMNS", 120))
    conversion.print_summary(Console(width=width))
    return 0
