"""Draw the temptation into the miniature: a lamp in the current observation whose colour stands for a letter.

    python -m recipes.evidence.temptation --data DATA --seed 0

The lamp fills the observation, red for A, green for B, blue for C, yellow for D. It shows the right letter with
probability `reliability`, else another. Reading it takes no recipe, no clip and no list of options: it is the way to
the letter that needs no reasoning, the same on every level and for every method.

Done to the images of data that is converted already, because the order of the options is the converter's. Drawing
twice with one seed draws the same.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image
from rich.progress import track

from data_prep.miniature_world import LETTERS, LEVELS, SIDE
from verl_care.records.jsonl import append, read

COLOURS = ((220, 40, 40), (40, 200, 60), (50, 80, 230), (240, 210, 50))
FILES = ("training_6k", "validation_L1", "validation_L2", "validation_L3")
RECORD = "lamps.jsonl"
RELIABILITY = 0.8  # of the evidence


def shown_letter(truth: int, reliability: float, rng: np.random.Generator) -> int:
    """Index of the letter that the lamp shows: the true one with probability `reliability`, else one of the others."""
    if not 0 <= reliability <= 1:
        raise ValueError(f"reliability is {reliability}, no probability: pass a number in [0, 1]")
    if rng.random() < reliability:
        return truth
    return [i for i in range(len(LETTERS)) if i != truth][int(rng.integers(len(LETTERS) - 1))]


def lamp(letter: int) -> Image.Image:
    return Image.new("RGB", (SIDE, SIDE), COLOURS[letter])


def tempt(data: Path, reliability: float, seed: int) -> None:
    """Draw a lamp over every observation of the converted files in `data`; DATA/lamps.jsonl says what each shows.

    Raises:
        ValueError: lamps were drawn there with other settings, or `reliability` is no probability.
    """
    record = data / RECORD
    if record.exists():
        done = next(iter(read(record)))
        if (done["reliability"], done["seed"]) != (reliability, seed):
            raise ValueError(f"{record} says that lamps were drawn with other settings: make the data anew")
        return
    drawn: list[Mapping[str, Any]] = [{"reliability": reliability, "seed": seed}]
    for number, name in enumerate(FILES):
        rng = np.random.default_rng([seed, number])
        for row in track(pq.read_table(data / f"{name}.parquet").to_pylist(), description=f"lamps {name}"):
            letter = shown_letter(LETTERS.index(row["reward_model"]["ground_truth"]), reliability, rng)
            lamp(letter).save(row["images"][0]["image"])
            drawn.append({"file": name, "id": row["extra_info"]["id"], "letter": LETTERS[letter]})
    append(record, drawn)


def lamps(data: Path, name: str) -> dict[str, str]:
    """Id of a row of the file -> letter that its lamp shows."""
    drawn = (line for line in read(data / RECORD) if line.get("file") == name)
    return {line["id"]: line["letter"] for line in drawn}


def validation_lamps(data: Path) -> dict[str, dict[str, str]]:
    """Level -> id of a row -> letter that its lamp shows; of data without lamps none. Levels share ids."""
    if not (data / RECORD).exists():
        return {}
    return {level: lamps(data, f"validation_{level}") for level in LEVELS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of converted parquet files")
    parser.add_argument("--reliability", type=float, default=RELIABILITY)
    parser.add_argument("--seed", type=int, default=0)
    tempt(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
