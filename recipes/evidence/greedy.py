"""What a model of the miniature answers when nothing is left to chance, and what its letters follow.

Validation through verl samples at temperature 1; a second validation would cost as much again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

from data_prep.miniature_world import LEVELS
from recipes.evidence.simulator import evaluate
from recipes.quickstart.examples import load_examples
from recipes.quickstart.probe import letter_likelihoods

PROBED = 128  # rows


def examine(model_folder: Path, data: Path) -> dict[str, Any]:
    """`greedy`: level -> measures. `probe`: likelihood of a letter behind its option, another one, none (on L1)."""
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(model_folder).float()
    processor = AutoProcessor.from_pretrained(model_folder)
    levels = {level: load_examples(data / f"validation_{level}.parquet", processor, model) for level in LEVELS}
    return {
        "greedy": {level: evaluate(model, processor.tokenizer, rows, greedy=True) for level, rows in levels.items()},
        "probe": letter_likelihoods(model, processor, levels["L1"][:PROBED]),
    }
