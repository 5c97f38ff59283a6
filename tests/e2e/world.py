"""What the end-to-end tests train on: the quick start's own data and model, but little of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.torch import load_file, save_file

from data_prep import miniature, seed_bench_r1
from recipes.quickstart.stages import CHECKPOINT


def write_world(home: Path) -> None:
    miniature.write_world(home / "world", seed=0, rows=32, level_rows=4)
    seed_bench_r1.convert(home / "world", home / "data", style="plain")


def damage_clips(home: Path, split: str, rows: tuple[int, ...]) -> Path:
    """The data of a split as if clips had been lost since they were checked: some are gone, the others cut short.

    Returns:
        another parquet file; the clips of the split's own stay as they are.
    """
    table = pq.read_table(home / "data" / f"{split}.parquet")
    videos = table["videos"].to_pylist()
    for place, row in enumerate(rows):
        (clip,) = videos[row]
        lost = home / f"lost_{split}_{row}.mp4"
        if place % 2:
            lost.write_bytes(Path(clip["video"]).read_bytes()[:500])
        videos[row] = [{**clip, "video": str(lost)}]
    column = table.schema.get_field_index("videos")
    damaged = table.set_column(column, table.schema.field(column), pa.array(videos, table.schema.field(column).type))
    pq.write_table(damaged, home / f"damaged_{split}.parquet")
    return home / f"damaged_{split}.parquet"


def write_model(folder: Path) -> None:
    shutil.copytree(CHECKPOINT, folder)


def write_model_that_prefers(folder: Path, token: int, instead_of: int) -> None:
    """The model, with twice the logit of one token for another: where it would say the one, it says the other."""
    write_model(folder)
    weights = load_file(folder / "model.safetensors")
    head = weights["lm_head.weight"]
    head[token] = 2 * head[instead_of]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
