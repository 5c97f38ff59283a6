"""Can a model tell an option from a word that is none? The likelihood of a letter behind three kinds of conclusion.

    python -m recipes.quickstart.probe --model recipes/quickstart/checkpoint --data runs/quickstart/data

A reference that gives a letter without reading the options likes it behind any conclusion. It would pay for reasoning
that does not lead to the answer; the bonus means something only where the first number is far above the others.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

from data_prep.miniature_world import ACTIONS, LETTERS
from recipes.quickstart.consistency_rule import respond
from recipes.quickstart.examples import Example, load_examples, scored_logits
from recipes.quickstart.packing import pack

LETTER_FROM_END = 4  # `>B` `</` `answer` `>`

# What the reasoning concludes when the letter is that of option `index`.
CONCLUSIONS: dict[str, Callable[[Example, int, np.random.Generator], str]] = {
    "the letter's option": lambda example, index, rng: example.options[index],
    "another option": lambda example, index, rng: example.options[(index + 1) % len(LETTERS)],
    "no option": lambda example, index, rng: str(rng.choice([a for a in ACTIONS if a not in example.options])),
}


@torch.no_grad()
def letter_likelihoods(
    model: Qwen2_5_VLForConditionalGeneration, processor, examples: Sequence[Example], seed: int = 0
) -> dict[str, float]:
    """Mean probability of a random letter, given the prompt and reasoning that concludes in each of `CONCLUSIONS`."""
    rng = np.random.default_rng(seed)
    indices = rng.integers(len(LETTERS), size=len(examples))
    found = {}
    for name, conclude in CONCLUSIONS.items():
        responses = [
            processor.tokenizer(respond(e.seen, conclude(e, int(i), rng), LETTERS[int(i)]))["input_ids"]
            for e, i in zip(examples, indices, strict=True)
        ]
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
    for name, likelihood in letter_likelihoods(model, processor, examples).items():
        print(f"likelihood of the letter when the conclusion is {name:<20} {likelihood:.3f}")


if __name__ == "__main__":
    main()
