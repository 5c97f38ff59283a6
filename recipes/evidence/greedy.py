"""What a model of the miniature answers when nothing is left to chance, and what its letters follow.

    python -m recipes.evidence.greedy --model MODEL --data DATA --out FILE

Validation through verl samples at temperature 1; a second validation would cost as much again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

from data_prep.miniature_world import LEVELS
from recipes.evidence.simulator import evaluate
from recipes.evidence.temptation import validation_lamps
from recipes.quickstart.examples import load_examples
from recipes.quickstart.probe import letter_likelihoods

PROBED = 128  # rows


def examine(model_folder: Path, data: Path) -> dict[str, Any]:
    """`greedy`: level -> measures. `probe`: see `letter_likelihoods` (on L1)."""
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(model_folder).float()
    processor = AutoProcessor.from_pretrained(model_folder)
    levels = {level: load_examples(data / f"validation_{level}.parquet", processor, model) for level in LEVELS}
    shown = validation_lamps(data)
    return {
        "greedy": {
            level: evaluate(model, processor.tokenizer, rows, greedy=True, lamps=shown.get(level, {}))
            for level, rows in levels.items()
        },
        "probe": letter_likelihoods(model, processor, levels["L1"][:PROBED]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder of converted parquet files")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.write_text(json.dumps(examine(arguments.model, arguments.data)))


if __name__ == "__main__":
    main()
