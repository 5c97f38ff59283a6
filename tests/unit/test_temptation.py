"""The lamp shows what it is said to, as often as it is said to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep.miniature import write_world
from data_prep.miniature_world import LETTERS
from data_prep.seed_bench_r1 import convert
from recipes.evidence.temptation import COLOURS, RECORD, shown_letter, tempt
from tests.unit.converted import rows_of
from verl_care.records.jsonl import read


def test_reliability_is_the_share_of_true_lamps():
    rng = np.random.default_rng(0)
    drawn = [shown_letter(2, 0.75, rng) for _ in range(4000)]
    assert np.mean(np.array(drawn) == 2) == pytest.approx(0.75, abs=0.03)  # 4.4 standard errors of sqrt(.75*.25/4000)
    assert set(drawn) == {0, 1, 2, 3}
    assert {shown_letter(1, 1.0, rng) for _ in range(50)} == {1}
    assert 1 not in {shown_letter(1, 0.0, rng) for _ in range(50)}
    with pytest.raises(ValueError, match="no probability"):
        shown_letter(0, 1.5, rng)


def test_all_files_are_drawn_into_and_only_once(tmp_path: Path):
    write_world(tmp_path, seed=0, rows=12, level_rows=6)
    convert(tmp_path, tmp_path / "data", style="plain")
    tempt(tmp_path / "data", reliability=1.0, seed=3)
    for name in ("training_6k", "validation_L1", "validation_L3"):
        for row in rows_of(tmp_path / "data", name):
            colour = Image.open(row["images"][0]["image"]).getpixel((10, 40))
            assert LETTERS[COLOURS.index(colour)] == row["reward_model"]["ground_truth"]
    before = list(read(tmp_path / "data" / RECORD))
    tempt(tmp_path / "data", reliability=1.0, seed=3)
    assert list(read(tmp_path / "data" / RECORD)) == before
    assert len(before) == 1 + 12 + 3 * 6
    with pytest.raises(ValueError, match="make the data anew"):
        tempt(tmp_path / "data", reliability=0.5, seed=3)
