"""python -m verl_care.evaluation generate CHECKPOINT DATA [overrides]: verl's command, with names for both."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

DESCRIPTION = "answers of a checkpoint to a benchmark; after an interruption the same command goes on"
BENCHMARKS = ("seed_bench_r1", "general_video")  # verl_care/config/care/evaluate


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT", help="a Hugging Face folder or name, or a training checkpoint global_step_N"
    )
    parser.add_argument("data", metavar="DATA", help=f"{', '.join(BENCHMARKS)}, or a parquet file; several with commas")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides of care_evaluate, e.g. data.video.max_frames=32")


def run(arguments: argparse.Namespace) -> int:
    from verl_care.evaluation.generate import checkpoint

    model = checkpoint.as_model(arguments.checkpoint)
    command = evaluation_command(checkpoint.name_of(arguments.checkpoint), model, arguments.data, arguments.overrides)
    sys.stdout.flush()
    os.execv(command[0], command)


def evaluation_command(name_of_model: str, model: str, data: str, overrides: list[str]) -> list[str]:
    """Raises:
    FileNotFoundError: if DATA is neither a benchmark nor files.
    """
    if data in BENCHMARKS:
        name, chosen = data, [f"care/evaluate={data}"]
    else:
        files = [Path(file).expanduser().absolute() for file in data.split(",")]
        if missing := [str(file) for file in files if not file.is_file()]:
            raise FileNotFoundError(f"{missing[0]}: no such file; DATA is {', '.join(BENCHMARKS)}, or parquet files")
        name = "+".join(file.stem for file in files)
        chosen = [f"data.val_files=[{','.join(quoted(str(file)) for file in files)}]"]
    # Absolute: the processes of a Ray that was there before have working directories of their own.
    run_folder = Path("runs/evaluation", name, name_of_model).absolute()
    return [
        *(sys.executable, "-m", "verl.trainer.main_ppo", "--config-name", "care_evaluate", *chosen),
        f"actor_rollout_ref.model.path={quoted(model)}",
        f"evaluation.run={quoted(str(run_folder))}",
        *overrides,
    ]


def quoted(text: str) -> str:
    """A text as Hydra's overrides take it, whatever it holds."""
    return "'" + text.replace("\\'", "\\\\'").replace("'", "\\'") + "'"
