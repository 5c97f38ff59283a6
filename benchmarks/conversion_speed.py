"""How long Video-R1's 263,071 rows take to convert, and how much memory.

    python benchmarks/conversion_speed.py [--rows 263071]

The rows are made up, in Video-R1's schema and its mix of types and sources. Files of media are not looked for. The
conversion runs in a process of its own, whose peak of resident memory is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

ROWS = 263_071
TYPES = {  # rows of each problem type in Video-R1-260k.json
    "multiple choice": 168_769,
    "free-form": 38_722,
    "numerical": 34_354,
    "OCR": 15_886,
    "regression": 5_340,
}
IMAGE_SHARE = 146_823 / ROWS
SOURCES = ("LLaVA-Video-178K", "NeXT-QA", "PerceptionTest", "CLEVRER", "STAR", "General", "Chart", "OCR", "Math")
WORDS = (
    "the",
    "person",
    "picks",
    "up",
    "red",
    "cup",
    "from",
    "table",
    "then",
    "walks",
    "to",
    "kitchen",
    "and",
    "opens",
)


def text(rng: random.Random, least: int, most: int) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(least, most)))


def row(number: int, rng: random.Random) -> dict[str, Any]:
    kind = rng.choices(list(TYPES), weights=list(TYPES.values()))[0]
    data_type = "image" if rng.random() < IMAGE_SHARE else "video"
    source = rng.choice(SOURCES)
    choice = kind == "multiple choice"
    answer = rng.choice("ABCD") if choice else text(rng, 1, 20)
    if kind in ("numerical", "regression"):
        answer = f"{rng.uniform(0, 100):.2f}"
    return {
        "problem_id": number,
        "problem": text(rng, 8, 60) + "?",
        "data_type": data_type,
        "problem_type": kind,
        "options": [f"{letter}. {text(rng, 2, 15)}" for letter in "ABCD"] if choice else [],
        "process": "",
        "solution": f"<answer>{answer}</answer>",
        "path": f"./{source}/{number % 97}/{number:07d}.{'jpg' if data_type == 'image' else 'mp4'}",
        "data_source": source,
    }


def make_up(path: Path, rows: int) -> None:
    rng = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        file.write("[\n")
        for number in tqdm(range(rows), desc="making rows up", leave=False, disable=None):
            file.write((",\n" if number else "") + json.dumps(row(number, rng), indent=2))
        file.write("\n]\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        source = root / "Video-R1-260k.json"
        make_up(source, rows)
        command = [sys.executable, "-m", "data_prep.video_r1", folder, "--out", f"{folder}/out", "--no-media-check"]
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        with process.stdout as output:
            table = output.read()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        print(table)
        if status:
            sys.exit(f"the conversion failed with status {os.waitstatus_to_exitcode(status)}")
        written = (root / "out" / "Video-R1-260k.parquet").stat().st_size
        print(f"{rows:,} rows, {source.stat().st_size / 1e6:.0f} MB of JSON to {written / 1e6:.0f} MB of parquet")
        processor = usage.ru_utime + usage.ru_stime
        print(f"{seconds:.1f} s ({processor:.1f} s of processor time), {rows / seconds:,.0f} rows/s", end="")
        print(f", peak memory {usage.ru_maxrss / 1024**2:.2f} GB")


if __name__ == "__main__":
    main()
