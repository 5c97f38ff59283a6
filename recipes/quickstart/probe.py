"""Can a model tell an option from a word that is none, by the likelihood it gives to a letter?

    python -m recipes.quickstart.probe --model recipes/quickstart/checkpoint --data data/miniature

Every example is answered four times: the reasoning concludes on the letter's own option (a right one, a wrong one), on
another option, or on a word off the list. A reference whose likelihood is as high for the last kind pays for reasoning
that supports nothing.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

from data_prep.miniature_world import ACTIONS, LETTERS
from recipes.quickstart.consistency_rule import respond
from recipes.quickstart.examples import Example, load_examples, scored_logits
from recipes.quickstart.packing import pack

OWN_RIGHT, OWN_WRONG, OTHER, OFF_LIST = "own option, right", "own option, wrong", "another option", "off the list"
TO_LETTER = 4  # tokens from the end of a response without its end-of-turn: `>B` `</` `answer` `>`


@torch.no_grad()
def letter_likelihoods(
    model: Qwen2_5_VLForConditionalGeneration,
    processor: Qwen2_5_VLProcessor,
    examples: Sequence[Example],
    seed: int = 0,
    chunk: int = 32,
) -> dict[str, float]:
    """Mean likelihood of the letter, by what the conclusion is."""
    rng = np.random.default_rng(seed)
    found: dict[str, list[float]] = defaultdict(list)
    kinds = (OWN_RIGHT, OWN_WRONG, OTHER, OFF_LIST)
    for start in range(0, len(examples), chunk):
        part = examples[start : start + chunk]
        branches = []
        for example in part:
            answer = example.answer
            wrong = (answer + 1 + int(rng.integers(len(LETTERS) - 1))) % len(LETTERS)
            letter, other = (int(i) for i in rng.permutation(len(LETTERS))[:2])
            off_list = [action for action in ACTIONS if action not in example.options]
            cases = (
                (example.options[answer], answer),
                (example.options[wrong], wrong),
                (example.options[other], letter),
                (off_list[int(rng.integers(len(off_list)))], letter),
            )
            texts = [respond(example.seen, word, LETTERS[i]) for word, i in cases]
            branches.append([processor.tokenizer(text)["input_ids"] for text in texts])
        weights = [[[float(i == len(b) - TO_LETTER) for i in range(len(b))] for b in row] for row in branches]
        positions = [e.positions_3L for e in part if e.positions_3L is not None]
        packed = pack([e.prompt for e in part], branches, weights, positions)
        chances = scored_logits(model, packed, part).softmax(-1).gather(1, packed.target_T[:, None])[:, 0]
        for i, chance in enumerate(chances.tolist()):
            found[kinds[i % len(kinds)]].append(chance)
    return {kind: float(np.mean(values)) for kind, values in found.items()}


def load(folder: Path) -> tuple[Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor]:
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    return model.eval(), Qwen2_5_VLProcessor.from_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder of converted parquet files")
    parser.add_argument("--split", default="validation_L1")
    parser.add_argument("--limit", type=int, default=128)
    args = parser.parse_args()
    model, processor = load(args.model)
    examples = load_examples(args.data / f"{args.split}.parquet", processor, model, args.limit)
    for kind, chance in letter_likelihoods(model, processor, examples).items():
        print(f"{kind:18s} {chance:.3f}")


if __name__ == "__main__":
    main()
