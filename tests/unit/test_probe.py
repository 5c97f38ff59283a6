"""The shipped model can tell an option from a word that is none; without that the bonus would pay for anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
def asked(model, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, list[Example]]:
    """Processor and questions."""
    folder = tmp_path_factory.mktemp("probe")
    write_world(folder, seed=1, rows=1, level_rows=48)
    convert(folder, folder / "data", style="plain")
    processor = AutoProcessor.from_pretrained(CHECKPOINT)
    return processor, load_examples(folder / "data" / "validation_L1.parquet", processor, model)


@pytest.fixture(scope="module")
def likelihoods(model, asked) -> dict[str, float]:
    return letter_likelihoods(model, *asked)


def test_the_letters_option_makes_it_likely(likelihoods):
    assert likelihoods["its option"] > 0.6


def test_what_is_no_option_does_not(likelihoods):
    # four letters: one in four is what knowing nothing gives
    assert all(likelihoods[name] < 0.4 for name in ("no option", "nothing", "no word"))
    assert likelihoods["another option"] < 0.2


def test_whatever_else_ends_the_reasoning_does_not(model, asked):
    processor, examples = asked
    assert max(letter_likelihoods(model, processor, examples, probe.WAYS_OUT).values()) < 0.4


@pytest.mark.parametrize(("known", "likelihood"), [((">A", ">C"), 1.0), ((">B", ">B"), 0.0)])
def test_it_asks_for_the_right_letter_behind_every_ending(model, monkeypatch, known, likelihood):
    """A reference that always knows the right letter is not told apart by any ending, and that is what is seen."""
    examples = [
        Example([0], ("pour", "stir", "chop", "peel"), truth, ("mix",), (), "x", torch.zeros(3, 1, dtype=torch.long))
        for truth in (0, 2)
    ]
    processor = AutoProcessor.from_pretrained(CHECKPOINT)
    ids = torch.tensor([processor.tokenizer.convert_tokens_to_ids(letter) for letter in known])

    def knows(_model, packed, _examples):
        return 100.0 * torch.nn.functional.one_hot(ids[packed.row_T], model.config.text_config.vocab_size)

    monkeypatch.setattr(probe, "scored_logits", knows)
    found = letter_likelihoods(model, processor, examples, probe.CONCLUSIONS | probe.WAYS_OUT)
    assert list(found.values()) == pytest.approx([likelihood] * len(found))


def test_it_is_small_enough_to_ship(model):
    size = sum(file.stat().st_size for file in Path(CHECKPOINT).iterdir())
    assert size < 5_000_000
    assert model.num_parameters() < 5_000_000
