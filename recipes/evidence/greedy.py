"""What a model of the miniature answers when nothing is left to chance, and what its letters follow.

    python -m recipes.evidence.greedy --model MODEL --data DATA --out FOLDER

Writes `greedy.jsonl`, in the form of verl's dumps of a validation, and `probe.json`. Validation through verl samples at
temperature 1; a second validation would cost as much again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

from data_prep.miniature_world import LETTERS, LEVELS
from recipes.evidence.results import GREEDY, PROBE
from recipes.evidence.simulator import END, answers, texts_of
from recipes.quickstart.examples import Example, load_examples
from recipes.quickstart.probe import letter_likelihoods

PROBED = 128  # rows


def answers_of(model: Any, tokenizer: Any, level: str, rows: Sequence[Example]) -> Iterator[dict[str, str]]:
    """A row of a dump for each question."""
    end = tokenizer.convert_tokens_to_ids(END)
    responses = answers(model, tokenizer, rows, greedy=True)
    for row, text in zip(rows, texts_of(tokenizer, responses, end), strict=True):
        options = "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, row.options, strict=False))
        yield {"data_source": level, "id": row.id, "input": options, "output": text, "gts": LETTERS[row.answer]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder of converted parquet files")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(arguments.model).float()
    processor = AutoProcessor.from_pretrained(arguments.model)
    levels = {
        level: load_examples(arguments.data / f"validation_{level}.parquet", processor, model) for level in LEVELS
    }
    rows = [row for level in LEVELS for row in answers_of(model, processor.tokenizer, level, levels[level])]
    (arguments.out / GREEDY).write_text("".join(json.dumps(row) + "\n" for row in rows))
    probe = letter_likelihoods(model, processor, levels[LEVELS[0]][:PROBED])
    (arguments.out / PROBE).write_text(json.dumps(probe))


if __name__ == "__main__":
    main()
