"""Runs the checks in order and prints a line for each. Exit status 1 if one failed, else 0."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from verl_care.doctor import machine, software
from verl_care.doctor.finding import FAIL, Finding, error_of, install_line

CHECKS: tuple[Callable[[], Finding], ...] = (
    software.versions,
    software.plugin,
    software.registries,
    software.configs,
    software.settings,
    machine.decoders,
    machine.accelerator,
    machine.memory,
    machine.shared_memory,
)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m verl_care.doctor", description="Says whether this machine can train."
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="also show what the libraries print")
    options = parser.parse_args(arguments)

    failed = 0
    with only_ours(options.verbose) as out:
        for check in CHECKS:
            finding = examine(check)
            failed += finding.status == FAIL
            print(finding, file=out, flush=True)
        print(f"{failed} of {len(CHECKS)} checks failed." if failed else "This machine can train.", file=out)
    return 1 if failed else 0


def examine(check: Callable[[], Finding]) -> Finding:
    """The check's finding; if the check itself breaks, that is the finding."""
    found: list[Finding] = []
    error = error_of(lambda: found.append(check()))
    return found[0] if found else Finding(FAIL, check.__name__.replace("_", " "), str(error), install_line())


@contextmanager
def only_ours(verbose: bool) -> Iterator[TextIO]:
    """The real standard output; what anyone else prints, also from C, goes nowhere unless `verbose`."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out, open(os.devnull, "w") as nowhere:
        saved = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
        if not verbose:
            for descriptor in saved:
                os.dup2(nowhere.fileno(), descriptor)
        try:
            yield out
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for descriptor, original in saved.items():
                os.dup2(original, descriptor)
                os.close(original)


if __name__ == "__main__":
    sys.exit(main())
