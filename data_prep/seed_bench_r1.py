"""Convert SEED-Bench-R1 (or the miniature benchmark, which has its layout) to verl's parquet schema.

    python -m data_prep.seed_bench_r1 ROOT --out DIR [--seed 0] [--prompt released|plain] [--dry-run]

ROOT holds annotations/*.jsonl, videos/<source>/ and images/<source>/. Whatever of the training and validation files is
there is converted, each to a parquet file of its name. Rows that cannot be used are left out, counted, and named in
DIR/rejected.jsonl; DIR is written whole or not at all.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.common.command import converter_arguments, run
from data_prep.common.conversion import Conversion
from data_prep.common.media import MediaRoot
from data_prep.common.schema import RL_SCHEMA, image_entry, rl_row, video_entry
from data_prep.seed_bench_schema import FIELDS, Example, check_row
from verl_care.data.prompts import PromptStyle, prompt_text, with_options

LEVELS = {"validation_L1": "L1", "validation_L2": "L2", "validation_L3": "L3"}
PROBLEM_TYPE = "multiple choice"


def verl_row(example: Example, split: str, index: int, style: PromptStyle) -> dict[str, Any]:
    """The clip only where there is progress; the current observation always."""
    question = with_options(example.question, example.options)
    wording = "released_evaluation" if style == "released" and split != "train" else style
    return rl_row(
        data_source=f"seed_bench_r1/{split}",
        text=prompt_text(question, PROBLEM_TYPE, wording),
        ground_truth=example.letter,
        videos=[video_entry(example.video)] if example.video else [],
        images=[image_entry(example.image)],
        id=example.id,
        index=index,
        split=split,
        problem_type=PROBLEM_TYPE,
        question=example.question,
        task_goal=example.task_goal,
        options=list(example.options),
        progress=list(example.progress),
        domain=example.domain,
        scenario=example.scenario,
    )


def split_of(file: Path) -> str:
    """train for training_6k and every other training file (the full one too), L1 to L3, or nothing."""
    return "train" if file.name.startswith("training") else LEVELS.get(file.stem, "")


def convert(
    root: Path,
    out: Path,
    seed: int = 0,
    style: PromptStyle = "released",
    dry_run: bool = False,
    check_media: bool = True,
) -> Conversion:
    """Raises:
    FileNotFoundError: if ROOT has no annotation file of a known name.
    BadOutput: if `out` holds something that no conversion wrote.
    """
    files = [file for file in sorted((root / "annotations").glob("*.jsonl")) if split_of(file)]
    if not files:
        raise FileNotFoundError(
            f"{root / 'annotations'} holds none of training*.jsonl, {', '.join(f'{level}.jsonl' for level in LEVELS)}; "
            "ROOT is the folder with annotations/, videos/ and images/"
        )
    media = MediaRoot(root, check_media)
    settings = {"converter": "seed_bench_r1", "root": media.root, "seed": seed, "prompt": style}
    with Conversion(out, settings, dry_run) as conversion:
        for file in files:
            split = split_of(file)

            def build(row: Mapping[str, Any], index: int, split: str = split) -> dict[str, Any]:
                return verl_row(check_row(row, media, seed, training=split == "train"), split, index, style)

            conversion.convert_file(file, f"{file.stem}.parquet", RL_SCHEMA, build, FIELDS, id_field="sample_id")
    return conversion


def main() -> int:
    parser = converter_arguments(__doc__)
    parser.add_argument("root", type=Path, metavar="ROOT")
    args = parser.parse_args()
    return run(
        lambda: convert(args.root, args.out, args.seed, args.prompt, args.dry_run, not args.no_media_check),
    )


if __name__ == "__main__":
    sys.exit(main())
