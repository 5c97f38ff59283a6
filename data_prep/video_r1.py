"""Convert Video-R1's training, cold-start and evaluation files to verl's parquet schemas.

    python -m data_prep.video_r1 ROOT --out DIR [--sample N] [--seed 0] [--prompt released|plain] [--dry-run]

ROOT holds the files, or some of them, and the media that they name:

    Video-R1-260k.json        RL, for verl's main_ppo
    Video-R1-COT-165k.json    the cold start, for verl's SFT trainer (multi-turn)
    eval_*.json               the six benchmarks, in ROOT or in ROOT/Evaluation

Each becomes a parquet file of its name. `--sample` takes N rows of each training file, with its mix of sources;
evaluation files stay whole and in their order. Rows that cannot be used are left out, counted, and named in
DIR/rejected.jsonl; DIR is written whole or not at all.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data_prep.common.command import converter_arguments, run
from data_prep.common.conversion import Conversion
from data_prep.common.media import MediaRoot
from data_prep.common.schema import RL_SCHEMA, SFT_SCHEMA, rl_row
from data_prep.video_r1_schema import EVALUATION_FIELDS, FIELDS, Example, Kind, check_row
from verl_care.data.budget import ImageBudget, VideoBudget
from verl_care.data.prompts import PromptStyle, prompt_text, with_lettered_options

TRAINING, COLD_START = "Video-R1-260k.json", "Video-R1-COT-165k.json"
BENCHMARKS = ("mmvu", "mvbench", "videomme", "videommmu", "vsibench", "tempcompass")


def kind_of(file: Path) -> Kind:
    return {TRAINING: Kind.TRAINING, COLD_START: Kind.COLD_START}.get(file.name, Kind.EVALUATION)


def files_in(root: Path) -> list[Path]:
    """Raises:
    FileNotFoundError: if there is none.
    """
    evaluation = [f"eval_{name}.json" for name in BENCHMARKS]
    wanted = [TRAINING, COLD_START, *evaluation, *(f"Evaluation/{name}" for name in evaluation)]
    files = [file for name in wanted if (file := root / name).is_file()]
    if not files:
        raise FileNotFoundError(f"{root} holds none of {', '.join(wanted)}")
    return files


def rl_example(example: Example, data_source: str, split: str, index: int, style: PromptStyle) -> dict[str, Any]:
    question = with_lettered_options(example.problem, example.options) if example.options else example.problem
    return rl_row(
        data_source=data_source,
        text=prompt_text(question, example.problem_type, style),
        ground_truth=example.answer,
        videos=example.videos,
        images=example.images,
        id=example.id,
        index=index,
        split=split,
        problem_type=example.problem_type,
        source=example.source,
        question=example.problem,
        options=list(example.options),
        task_type=example.task_type,
        duration=example.duration,
        domain=example.domain,
    )


def sft_example(example: Example, index: int, style: PromptStyle) -> dict[str, Any]:
    """The same prompt, and the response to learn. verl's SFT dataset samples clips itself: by the budget of RL."""
    row = rl_example(example, "video_r1", Kind.COLD_START.value, index, style)
    return {
        "data_source": row["data_source"],
        "messages": [*row["prompt"], {"role": "assistant", "content": example.reasoned_answer}],
        "videos": [{"video": clip["video"], **asdict(VideoBudget())} for clip in row["videos"]],
        "images": [{**image, **asdict(ImageBudget())} for image in row["images"]],
        "extra_info": row["extra_info"],
    }


def convert(
    root: Path,
    out: Path,
    seed: int = 0,
    style: PromptStyle = "released",
    sample: int | None = None,
    dry_run: bool = False,
    check_media: bool = True,
) -> Conversion:
    """Raises:
    FileNotFoundError: if ROOT has none of the files.
    BadFile: if one of them is not a JSON list.
    BadOutput: if `out` holds something that no conversion wrote.
    """
    files, media = files_in(root), MediaRoot(root, check_media)
    settings = {"converter": "video_r1", "root": media.root, "seed": seed, "prompt": style, "sample": sample}
    with Conversion(out, settings, dry_run) as conversion:
        for file in files:
            kind = kind_of(file)

            def build(row: Mapping[str, Any], index: int, kind: Kind = kind, file: Path = file) -> dict[str, Any]:
                example = check_row(row, kind, media)
                if kind is Kind.COLD_START:
                    return sft_example(example, index, style)
                if kind is Kind.TRAINING:
                    return rl_example(example, "video_r1", kind.value, index, style)
                # One source a problem type: validation then reports the mean of each.
                source = f"{file.stem.removeprefix('eval_')}/{example.problem_type.replace(' ', '_')}"
                wording = "released_evaluation" if style == "released" else style
                return rl_example(example, source, kind.value, index, wording)

            conversion.convert_file(
                file,
                f"{file.stem}.parquet",
                SFT_SCHEMA if kind is Kind.COLD_START else RL_SCHEMA,
                build,
                EVALUATION_FIELDS if kind is Kind.EVALUATION else FIELDS,
                id_field="problem_id",
                sample_rows=None if kind is Kind.EVALUATION else sample,
            )
    return conversion


def main() -> int:
    parser = converter_arguments(__doc__)
    parser.add_argument("root", type=Path, metavar="ROOT")
    parser.add_argument("--sample", type=int, metavar="N", help="rows of each training file, in its mix of sources")
    args = parser.parse_args()
    if args.sample is not None and args.sample < 1:
        parser.error(f"--sample must be at least 1: found {args.sample}")
    return run(
        lambda: convert(args.root, args.out, args.seed, args.prompt, args.sample, args.dry_run, not args.no_media_check)
    )


if __name__ == "__main__":
    sys.exit(main())
