"""Convert SEED-Bench-R1 (or the miniature benchmark, which has its layout) to verl's parquet schema.

    python -m data_prep.seed_bench_r1 ROOT --out DIR [--seed 0] [--prompt released|plain]

ROOT holds annotations/*.jsonl, videos/<source>/ and images/<source>/. Whatever of training_6k, validation_L1, _L2 and
_L3 is there is converted. Rows that cannot be used are left out, counted, and named in DIR/rejected.jsonl.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.progress import Progress

from data_prep.seed_bench_schema import BadRow, Example, check_row
from verl_care.data.prompts import PromptStyle, prompt_text, with_options

SPLITS = {"training_6k": "train", "validation_L1": "L1", "validation_L2": "L2", "validation_L3": "L3"}
PROBLEM_TYPE = "multiple choice"
PROMPT_STYLES = ("released", "plain")

SCHEMA = pa.schema(
    [
        ("data_source", pa.string()),
        ("prompt", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
        ("videos", pa.list_(pa.struct([("video", pa.string())]))),
        ("images", pa.list_(pa.struct([("image", pa.string())]))),
        ("reward_model", pa.struct([("style", pa.string()), ("ground_truth", pa.string())])),
        (
            "extra_info",
            pa.struct(
                [
                    ("id", pa.string()),
                    ("index", pa.int64()),
                    ("split", pa.string()),
                    ("problem_type", pa.string()),
                    ("task_goal", pa.string()),
                    ("options", pa.list_(pa.string())),
                    ("progress", pa.list_(pa.string())),
                    ("domain", pa.string()),
                    ("scenario", pa.string()),
                ]
            ),
        ),
    ]
)


@dataclass
class Converted:
    rows: list[dict[str, Any]] = field(default_factory=list)
    rejected: list[dict[str, Any]] = field(default_factory=list)


def verl_row(example: Example, split: str, index: int, style: PromptStyle) -> dict[str, Any]:
    """The clip only where there is progress; the current observation always. Media come in front of the text."""
    question = with_options(example.question, example.options)
    marks = ("<video>" if example.video else "") + "<image>"
    return {
        "data_source": f"seed_bench_r1/{split}",
        "prompt": [{"role": "user", "content": marks + prompt_text(question, PROBLEM_TYPE, style)}],
        "videos": [{"video": str(example.video)}] if example.video else [],
        "images": [{"image": str(example.image)}],
        "reward_model": {"style": "rule", "ground_truth": example.letter},
        "extra_info": {
            "id": example.id,
            "index": index,
            "split": split,
            "problem_type": PROBLEM_TYPE,
            "task_goal": example.task_goal,
            "options": list(example.options),
            "progress": list(example.progress),
            "domain": example.domain,
            "scenario": example.scenario,
        },
    }


def convert_file(path: Path, root: Path, seed: int, style: PromptStyle, progress: Progress | None = None) -> Converted:
    """`root` must be absolute: its paths are written into the rows."""
    split = SPLITS[path.stem]
    lines = path.read_bytes().splitlines()
    numbered = enumerate(lines, start=1)
    result, seen = Converted(), set()
    for number, line in progress.track(numbered, len(lines), description=path.stem) if progress else numbered:
        if not line.strip():
            continue
        try:
            try:
                row = json.loads(line)
            except ValueError as error:  # not JSON, or not UTF-8
                raise BadRow("(row)", f"is not JSON: {error}") from error
            example = check_row(row, root, seed, training=split == "train")
            if example.id in seen:
                raise BadRow("sample_id", f"{example.id} was used by an earlier row")
        except BadRow as bad:
            result.rejected.append({"file": path.name, "line": number, "field": bad.field, "reason": bad.reason})
            continue
        seen.add(example.id)
        result.rows.append(verl_row(example, split, len(result.rows), style))
    return result


def write_parquet(rows: list[dict[str, Any]], path: Path) -> None:
    """All or nothing: an interrupted conversion leaves no half-written file under the final name."""
    partial = path.with_name(path.name + ".partial")
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), partial)
    os.replace(partial, path)


def write_rejected(rejected: list[dict[str, Any]], path: Path) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rejected), encoding="utf-8")
    os.replace(partial, path)


def convert(root: Path, out: Path, seed: int = 0, style: PromptStyle = "released") -> dict[str, Converted]:
    root = Path(os.path.abspath(root))
    files = [f for split in SPLITS if (f := root / "annotations" / f"{split}.jsonl").is_file()]
    if not files:
        raise FileNotFoundError(
            f"{root / 'annotations'} holds none of {', '.join(f'{s}.jsonl' for s in SPLITS)}; "
            "ROOT is the folder with annotations/, videos/ and images/"
        )
    out.mkdir(parents=True, exist_ok=True)
    converted = {}
    with Progress(disable=not sys.stderr.isatty()) as progress:
        for file in files:
            converted[file.stem] = result = convert_file(file, root, seed, style, progress)
            write_parquet(result.rows, out / f"{file.stem}.parquet")
    write_rejected([r for result in converted.values() for r in result.rejected], out / "rejected.jsonl")
    return converted


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, metavar="ROOT")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--seed", type=int, default=0, help="of the draw and the order of the training options")
    parser.add_argument("--prompt", choices=PROMPT_STYLES, default="released", help="plain: question and options only")
    args = parser.parse_args()
    try:
        converted = convert(args.root, args.out, args.seed, args.prompt)
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    for name, result in converted.items():
        reasons = Counter(r["field"] for r in result.rejected)
        left_out = "".join(f", {count} left out for {name}" for name, count in reasons.most_common())
        print(f"{name}: {len(result.rows)} rows{left_out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
