"""The shipped model can tell an option from a word that is none; without that the bonus would pay for anything."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

from data_prep.miniature import write_world
from data_prep.seed_bench_r1 import convert
from recipes.quickstart import probe
from recipes.quickstart.examples import Example, load_examples
from recipes.quickstart.probe import letter_likelihoods
from recipes.quickstart.stages import CHECKPOINT


@pytest.fixture(scope="module")
def model() -> Qwen2_5_VLForConditionalGeneration:
    return Qwen2_5_VLForConditionalGeneration.from_pretrained(CHECKPOINT).float()


@pytest.fixture(scope="module")
def likelihoods(model, tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    folder = tmp_path_factory.mktemp("probe")
    write_world(folder, seed=1, rows=1, level_rows=48)
    convert(folder, folder / "data", style="plain")
    processor = AutoProcessor.from_pretrained(CHECKPOINT)
    examples = load_examples(folder / "data" / "validation_L1.parquet", processor, model)
    return letter_likelihoods(model, processor, examples)


def test_the_letters_option_makes_it_likely(likelihoods):
    assert likelihoods["its option"] > 0.6


def test_what_is_no_option_does_not(likelihoods):
    # four letters: one in four is what knowing nothing gives
    assert all(likelihoods[name] < 0.4 for name in ("no option", "nothing", "no word"))
    assert likelihoods["another option"] < 0.2


def test_the_probe_sees_a_letter_that_does_not_hang_on_reasoning(model, monkeypatch):
    """A reference that always knows the right letter is not told apart by any conclusion, and that is what is seen."""
    examples = [
        Example([0], ("pour", "stir", "chop", "peel"), truth, ("mix",), (), "x", torch.zeros(3, 1, dtype=torch.long))
        for truth in (0, 2)
    ]
    processor = AutoProcessor.from_pretrained(CHECKPOINT)

    def knows(_model, packed, _examples):
        return 100.0 * torch.nn.functional.one_hot(packed.target_T, model.config.text_config.vocab_size)

    monkeypatch.setattr(probe, "scored_logits", knows)
    assert set(letter_likelihoods(model, processor, examples).values()) == {1.0}


def test_it_is_small_enough_to_ship(model):
    size = sum(file.stat().st_size for file in Path(CHECKPOINT).iterdir())
    assert size < 5_000_000
    assert model.num_parameters() < 5_000_000
