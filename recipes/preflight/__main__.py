"""Says what would stop a run, before it starts. Exit status 1 if something would, else 0."""

from __future__ import annotations

import argparse
import os
import sys

from omegaconf import DictConfig

from recipes.preflight.checks import SAMPLE, Preflight
from verl_care.doctor.__main__ import CHECKS, examine, only_ours
from verl_care.doctor.finding import FAIL, Finding


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m recipes.preflight", description=__doc__)
    parser.add_argument("recipe", help="a primary configuration, such as care_seed_bench_r1")
    parser.add_argument("overrides", nargs="*", help="the run's Hydra overrides")
    parser.add_argument("--sample", type=int, default=SAMPLE, help="prompts to make of each data file (%(default)s)")
    parser.add_argument("-v", "--verbose", action="store_true", help="also show what the libraries print")
    options = parser.parse_args(arguments)

    found: list[Finding] = []
    with os.fdopen(os.dup(2), "w") as progress, only_ours(options.verbose) as out:

        def say(finding: Finding) -> None:
            found.append(finding)
            print(finding, file=out, flush=True)

        for check in CHECKS:
            say(examine(check))
        composed: list[Preflight] = []

        def configuration() -> Finding:
            composed.append(Preflight(_compose(options.recipe, options.overrides), options.sample, progress))
            return composed[0].configuration()

        say(examine(configuration))
        for check in list(composed[0].checks())[1:] if composed else ():
            say(examine(check))
        failed = sum(finding.status == FAIL for finding in found)
        print(f"{failed} of {len(found)} checks failed." if failed else f"{options.recipe} can start.", file=out)
    return 1 if failed else 0


def _compose(recipe: str, overrides: list[str]) -> DictConfig:
    from hydra import compose, initialize_config_module
    from omegaconf import OmegaConf

    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose(recipe, overrides=overrides)
    OmegaConf.resolve(config)
    return config


if __name__ == "__main__":
    sys.exit(main())
