"""Does a model's letter hang on what the reasoning concludes? The right letter's likelihood behind ten endings.

    python -m recipes.quickstart.probe --model recipes/quickstart/checkpoint --data runs/quickstart/data

The bonus compares right letters. A reference to which the right letter is as likely behind a word that is no option, or
behind no conclusion at all, would pay for reasoning that does not lead to the answer: the bonus means something only
where the first number is above all others.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

from data_prep.miniature_world import ACTIONS, LETTERS
from recipes.quickstart.consistency_rule import ending_in
from recipes.quickstart.examples import Example, load_examples, scored_logits
from recipes.quickstart.packing import pack

LETTER_FROM_END = 4  # `>B` `</` `answer` `>`

Ending = Callable[[Example, np.random.Generator], str]
"""What the reasoning ends in, behind the steps that were seen."""


def _off_list(example: Example, rng: np.random.Generator) -> str:
    return str(rng.choice([action for action in ACTIONS if action not in example.options]))


def _another(example: Example, rng: np.random.Generator) -> str:
    return example.options[(example.answer + 1 + int(rng.integers(len(LETTERS) - 1))) % len(LETTERS)]


CONCLUSIONS: dict[str, Ending] = {
    "its option": lambda example, rng: f" so {example.options[example.answer]}",
    "another option": lambda example, rng: f" so {_another(example, rng)}",
    "no option": lambda example, rng: f" so {_off_list(example, rng)}",
    "nothing": lambda example, rng: " so nothing",
    "no word": lambda example, rng: " so ",
}
"""A reference is judged by these."""
WAYS_OUT: dict[str, Ending] = {
    "so": lambda example, rng: " so",
    "so.": lambda example, rng: " so.",
    "so so": lambda example, rng: " so so",
    "without so": lambda example, rng: "",
    "two steps": lambda example, rng: f" so {_off_list(example, rng)} {_off_list(example, rng)}",
}
"""Endings that runs have come to by themselves, or might."""


@torch.no_grad()
def letter_likelihoods(
    model: Qwen2_5_VLForConditionalGeneration,
    processor: Any,
    examples: Sequence[Example],
    endings: Mapping[str, Ending] = CONCLUSIONS,
    seed: int = 0,
) -> dict[str, float]:
    """Mean probability of the right letter, given the prompt and reasoning that ends in each of `endings`."""
    rng = np.random.default_rng(seed)
    found = {}
    for name, ending in endings.items():
        texts = [ending_in(e.seen, ending(e, rng), LETTERS[e.answer]) for e in examples]
        responses = [processor.tokenizer(text)["input_ids"] for text in texts]
        weights = [[[float(t == len(r) - LETTER_FROM_END) for t in range(len(r))]] for r in responses]
        positions = [e.positions_3L for e in examples if e.positions_3L is not None]
        packed = pack([e.prompt for e in examples], [[r] for r in responses], weights, positions)
        probability = scored_logits(model, packed, examples).softmax(-1)
        found[name] = float(probability.gather(1, packed.target_T[:, None]).mean())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder with validation_L1.parquet")
    parser.add_argument("--rows", type=int, default=128)
    args = parser.parse_args()
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(args.model).float()
    processor = AutoProcessor.from_pretrained(args.model)
    examples = load_examples(args.data / "validation_L1.parquet", processor, model, limit=args.rows)
    for name, likelihood in letter_likelihoods(model, processor, examples, CONCLUSIONS | WAYS_OUT).items():
        print(f"likelihood of the right letter behind {name:<14} {likelihood:.3f}")


if __name__ == "__main__":
    main()
