"""Convert multimodal-open-r1-8k-verified (image problems of mathematics) to verl's parquet schema.

    python -m data_prep.multimodal_open_r1 FILES --out DIR [--prompt released|plain] [--dry-run]

FILES are the parquet files of the data set, with `image`, `problem`, `solution`, `original_question` and
`original_answer`. One file becomes DIR/training.parquet, several become DIR/training-1.parquet and so on; images become
files of DIR/images, named by their content. The truth is the answer of `solution`; what the original answer was is not
used. Rows that cannot be used are left out, counted, and named in DIR/rejected.jsonl, the n-th row of a file as line n;
DIR is written whole or not at all.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.common.command import converter_arguments, run
from data_prep.common.conversion import Conversion
from data_prep.common.fields import WHOLE_ROW, BadRow
from data_prep.common.reading import BadFile
from data_prep.common.schema import RL_SCHEMA, image_entry, rl_row
from data_prep.multimodal_open_r1_schema import FIELDS, Example, check_row
from verl_care.data.prompts import PromptStyle, prompt_text
from verl_care.processes.helper import HelperNotStarted

NEEDED = ("image", "problem", "solution")
ROWS_AT_A_TIME = 64  # each carries its image


def opened(path: Path) -> pq.ParquetFile:
    """Raises:
    BadFile: if this is no parquet file with the columns that are needed.
    """
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise BadFile(f"{path}: is no parquet file that can be read: {error}") from error
    missing = [name for name in NEEDED if name not in file.schema_arrow.names]
    if missing:
        raise BadFile(f"{path}: has no column {', '.join(missing)}, only {', '.join(file.schema_arrow.names)}")
    return file


def rows_of(file: pq.ParquetFile, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Raises:
    BadFile: where the file is damaged.
    """
    number = 0
    try:
        for batch in file.iter_batches(batch_size=ROWS_AT_A_TIME):
            for row in batch.to_pylist():
                number += 1
                yield number, row
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise BadFile(f"{path}: is damaged behind row {number}: {error}") from error


def verl_row(example: Example, image: str, index: int, style: PromptStyle) -> dict[str, Any]:
    """The options stand in the problem already."""
    return rl_row(
        data_source="multimodal_open_r1",
        text=prompt_text(example.problem, example.problem_type, style),
        ground_truth=example.answer,
        images=[image_entry(image)],
        id=example.id,
        index=index,
        split="train",
        problem_type=example.problem_type,
        options=list(example.options),
    )


def convert(files: Sequence[Path], out: Path, style: PromptStyle = "released", dry_run: bool = False) -> Conversion:
    """Raises:
    BadFile: if one of the files is not of the data set's layout.
    BadOutput: if `out` holds something that no conversion wrote.
    """
    names = [file.name for file in files]
    if len(set(names)) < len(names):
        raise BadFile(f"two files of one name, which rejected.jsonl could not tell apart: {', '.join(sorted(names))}")
    sources = [(file, opened(file)) for file in files]
    before: dict[str, str] = {}  # id -> file
    settings = {"converter": "multimodal_open_r1", "files": names, "prompt": style}
    with Conversion(out, settings, dry_run) as conversion:
        for number, (file, source) in enumerate(sources, start=1):

            def build(row: Mapping[str, Any], index: int, file: Path = file) -> dict[str, Any]:
                example = check_row(row)
                if before.setdefault(example.id, file.name) != file.name:
                    raise BadRow(WHOLE_ROW, f"stands in an earlier file too: {before[example.id]}")
                image = conversion.keep_file(f"images/{example.image_name}", example.image)
                return verl_row(example, image, index, style)

            rows = conversion.tracked(rows_of(source, file), source.metadata.num_rows, file.name)
            name = "training.parquet" if len(sources) == 1 else f"training-{number}.parquet"
            conversion.convert_rows(file.name, rows, name, RL_SCHEMA, build, FIELDS, id_field=WHOLE_ROW)
    return conversion


def main() -> int:
    parser = converter_arguments(__doc__, draws=False, media_files=False)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILES")
    args = parser.parse_args()
    try:
        return run(lambda: convert(args.files, args.out, args.prompt, args.dry_run))
    except HelperNotStarted as error:
        print(f"{error}. Installing verl_care brings math-verify: pip install .", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
