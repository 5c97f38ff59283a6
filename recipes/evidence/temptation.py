"""Draw the temptation into the miniature: a hand in the current observation that points at one of the four options.

    python -m recipes.evidence.temptation --data DATA --reliability 0.9 --seed 0

The hand is a bright square in the quadrant of an option's place in the list (A top left, B top right, C below A, D below
B). It points at the right option with probability `reliability`, else at another. Reading it takes no recipe, no clip and no
list of options: it is the way to the letter that needs no reasoning, the same on every level and for every method.

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

from data_prep.miniature_world import LETTERS, SIDE
from verl_care.records.jsonl import append, read

HAND, EDGE = (255, 255, 255), SIDE // 8  # a square of half a quadrant, in its middle
FILES = ("training_6k", "validation_L1", "validation_L2", "validation_L3")


def pointed_at(truth: int, reliability: float, rng: np.random.Generator) -> int:
    """The option that the hand points at: the true one with probability `reliability`, else one of the others."""
    if not 0 <= reliability <= 1:
        raise ValueError(f"reliability is {reliability}, no probability: pass a number in [0, 1]")
    if rng.random() < reliability:
        return truth
    return [i for i in range(len(LETTERS)) if i != truth][int(rng.integers(len(LETTERS) - 1))]


def draw_hand(observation: Image.Image, option: int) -> Image.Image:
    """A copy of the observation with the hand in the quadrant of `option`."""
    drawn, quadrant = observation.copy(), SIDE // 2
    left, top = quadrant * (option % 2) + EDGE, quadrant * (option // 2) + EDGE
    drawn.paste(HAND, (left, top, left + quadrant - 2 * EDGE, top + quadrant - 2 * EDGE))
    return drawn


def tempt(data: Path, reliability: float, seed: int) -> None:
    """Draw a hand into every observation of the converted files in `data`; DATA/hands.jsonl says where each points."""
    record = data / "hands.jsonl"
    if record.exists():
        done = next(iter(read(record)))
        if (done["reliability"], done["seed"]) != (reliability, seed):
            raise ValueError(f"{record} says that hands were drawn with other settings: make the data anew")
        return
    hands: list[Mapping[str, Any]] = [{"reliability": reliability, "seed": seed}]
    for number, name in enumerate(FILES):
        rng = np.random.default_rng([seed, number])
        for row in track(pq.read_table(data / f"{name}.parquet").to_pylist(), description=f"hands {name}"):
            option = pointed_at(LETTERS.index(row["reward_model"]["ground_truth"]), reliability, rng)
            path = Path(row["images"][0]["image"])
            draw_hand(Image.open(path), option).save(path)
            hands.append({"file": name, "id": row["extra_info"]["id"], "letter": LETTERS[option]})
    append(record, hands)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of converted parquet files")
    parser.add_argument("--reliability", type=float, default=0.9)
    parser.add_argument("--seed", type=int, default=0)
    tempt(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
