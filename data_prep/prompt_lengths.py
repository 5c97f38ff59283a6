"""Drop the rows of converted files whose prompt is too long for a model, from headers alone.

    python -m data_prep.prompt_lengths PARQUET... --out DIR --model PATH --max-prompt-length N
        [--fps 2 --min-frames 4 --max-frames 16 --max-pixels 100352 --image-max-pixels 200704]
        [--video-key videos --image-key images] [--dry-run]

Give the budget that training will have (`data.video`, `data.image`); the defaults are its defaults. No clip is decoded.
Lengths are exactly those of verl's rollout for Qwen2-VL, Qwen2.5-VL and Qwen3-VL. Files that cannot be opened are left
out too; every row that is left out is named in DIR/rejected.jsonl. Nothing else costs a row: ids may repeat or be null.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.common.command import key_arguments, run
from data_prep.common.conversion import Conversion
from data_prep.common.fields import BadRow
from data_prep.common.reading import BadFile
from verl_care.data.budget import ImageBudget, VideoBudget
from verl_care.data.decoders import MediaError
from verl_care.data.marks import Columns
from verl_care.data.prompt_length import PromptLength, UnknownProcessor

BATCH = 256  # rows; the progress bar moves on with each


def rows_of(file: pq.ParquetFile, conversion: Conversion) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number of the row, row), from 1 on."""
    batches = file.iter_batches(batch_size=BATCH)
    number = 0
    for batch in conversion.tracked(batches, -(-file.metadata.num_rows // BATCH), "prompts"):
        for row in batch.to_pylist():
            number += 1
            yield number, row


def opened(path: Path) -> pq.ParquetFile:
    """Raises:
    BadFile: if it is no parquet file of prompts.
    """
    try:
        file = pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise BadFile(f"{path} is no parquet file: {error}") from error
    schema = file.schema_arrow
    info = schema.field("extra_info").type if "extra_info" in schema.names else pa.struct([])
    found = {*schema.names, *(f"extra_info.{field.name}" for field in info)}
    missing = {"prompt", "data_source", "extra_info.problem_type"} - found
    if missing:
        raise BadFile(f"{path} has no {', '.join(sorted(missing))}: give files that a converter wrote for RL")
    return file


def measure(
    paths: list[Path],
    out: Path,
    length_of: PromptLength,
    limit: int,
    dry_run: bool = False,
    columns: Columns = Columns(),  # noqa: B008 - a tuple
) -> Conversion:
    """`columns` are those that `length_of` looks in.

    Raises:
        BadFile: for a file that holds no prompts, and for two of one name.
        BadOutput: if `out` holds something that no conversion wrote.
    """
    names = [path.name for path in paths]
    if len(set(names)) < len(names):
        raise BadFile(f"two files have one name, and would be written to one: {', '.join(names)}")
    files = [opened(path) for path in paths]
    lengths: list[int] = []

    def build(row: Mapping[str, Any], _: int) -> dict[str, Any]:
        try:
            length = length_of(row)
        except MediaError as error:
            raise BadRow(f"{columns.video} or {columns.image}", f"cannot be used: {error}") from error
        if length > limit:
            raise BadRow("prompt", f"is longer than {limit} tokens: has {length}")
        lengths.append(length)
        return dict(row)

    settings = {"step": "prompt_lengths", "max_prompt_length": limit, "files": [str(path) for path in paths]}
    with Conversion(out, settings, dry_run) as conversion:
        for path, file in zip(paths, files, strict=True):
            schema = file.schema_arrow
            rows = rows_of(file, conversion)
            conversion.convert_rows(path.name, rows, path.name, schema, build, schema.names, id_field=None)
    if lengths:
        mean = sum(lengths) / len(lengths)
        print(f"prompts kept have {min(lengths):,} to {max(lengths):,} tokens, {mean:,.1f} on average")
    return conversion


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", metavar="PARQUET")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="replaced whole, or left as it was")
    parser.add_argument("--model", required=True, metavar="PATH", help="its processor and tokenizer are used")
    parser.add_argument("--max-prompt-length", type=int, required=True, metavar="N", help="data.max_prompt_length")
    video, image = VideoBudget(), ImageBudget()
    for name, default in vars(video).items():
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=type(default), default=default, help=f"data.video.{name}"
        )
    parser.add_argument("--image-max-pixels", type=int, default=image.max_pixels, help="data.image.max_pixels")
    key_arguments(parser)
    parser.add_argument("--dry-run", action="store_true", help="count; write nothing")
    args = parser.parse_args()

    def convert() -> Conversion:
        from verl.utils import hf_processor

        budget, columns = VideoBudget(**{name: getattr(args, name) for name in vars(video)}), Columns.of(vars(args))
        processor = hf_processor(args.model)
        try:
            length_of = PromptLength(processor, budget, ImageBudget(args.image_max_pixels), columns)
        except UnknownProcessor as error:
            raise BadFile(f"--model {args.model}: {error}") from error
        return measure(args.files, args.out, length_of, args.max_prompt_length, args.dry_run, columns)

    return run(convert)


if __name__ == "__main__":
    sys.exit(main())
