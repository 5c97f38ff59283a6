"""python -m verl_care.evaluation COMMAND RUN ...: what can be said of an evaluation's answers."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module

COMMANDS: dict[str, str] = {
    "generate": "verl_care.evaluation.generate.command",
    "score": "verl_care.evaluation.score",
    "compare": "verl_care.evaluation.compare",
    "judge": "verl_care.evaluation.judge.command",
    "contradiction": "verl_care.evaluation.measures.contradiction",
    "agreement": "verl_care.evaluation.measures.agreement",
    "likelihood": "verl_care.evaluation.measures.likelihood",
    "calibrate": "verl_care.evaluation.measures.calibrate",
}
"""Name -> module with `DESCRIPTION`, `add_arguments(parser)`, `run(arguments) -> int`; `run` imports what is heavy."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m verl_care.evaluation", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, place in COMMANDS.items():
        module = import_module(place)
        command = commands.add_parser(name, help=module.DESCRIPTION, description=module.DESCRIPTION)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    arguments = parser.parse_args()
    try:
        return arguments.run(arguments)
    except (FileNotFoundError, ModuleNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
