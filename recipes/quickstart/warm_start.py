"""Warm-start the miniature model on reasoning whose conclusion and letter are only loosely tied.

    python -m recipes.quickstart.warm_start --data data/miniature_parquet --out data/miniature_model

Three stages, every one on packed rows (`packing`):
  look-up  bare option lists and words to look up in them: the letter of a word among shuffled options
  recipe   prompts without media: the step after the last one seen, then its letter
  clip     the training rows, the pixels included; first clean, then with noise in conclusion and letter

The look-up comes first and dense because it is what a plain warm start never learns (it was tried): the model then
gives a letter without reading the options, and a likelihood of the letter cannot tell an option from a word that is
none.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

from data_prep.miniature_world import ACTIONS, ADJECTIVES, DISHES, LETTERS, RECIPE_STEPS, Goal
from recipes.quickstart.consistency_rule import respond
from recipes.quickstart.examples import Example, chat_text, load_examples, scored_logits
from recipes.quickstart.model import build_model, build_processor
from recipes.quickstart.packing import Packed, pack
from verl_care.data.prompts import with_options

LETTER_FROM_END = 5  # `>B` `</` `answer` `>` `<|im_end|>`


@dataclass(frozen=True)
class Noise:
    """How a taught response comes about. Both ways to the letter stay in the mix: from the conclusion, from the clip."""

    conclusion_right: float  # else a wrong option, or a word that is none
    letter_follows: float  # the letter is the conclusion's,
    letter_right: float  # else, with this probability, the right one; else a wrong one
    off_list: float = 0.0  # share of the conclusions that are no option


CLEAN = Noise(1.0, 1.0, 0.0)


class Teacher:
    """Makes packed batches of what is to be learned. All randomness is from one generator."""

    def __init__(self, processor: Qwen2_5_VLProcessor, seed: int, letter_weight: float) -> None:
        self.processor, self.tokenizer = processor, processor.tokenizer
        self.rng = np.random.default_rng(seed)
        self.letter_weight = letter_weight
        self.end = self.tokenizer.convert_tokens_to_ids("<|im_end|>")

    def ids(self, text: str) -> list[int]:
        return self.tokenizer(text)["input_ids"]

    def pick(self, among: Sequence[str]) -> str:
        return among[int(self.rng.integers(len(among)))]

    def look_up(self, options: Sequence[str], word: str, full: bool) -> tuple[list[int], list[float]]:
        """A word and its letter, which alone is scored; the letter of a word that is no option is any letter."""
        letter = LETTERS[options.index(word)] if word in options else self.pick(LETTERS)
        text = f" so {word} </think>\n<answer>{letter}" if full else f" {word}>{letter}"
        branch = self.ids(text)
        return branch, [0.0] * (len(branch) - 1) + [1.0]

    def next_step(self, steps: Sequence[str], done: int) -> tuple[list[int], list[float]]:
        """The step behind the last one seen, which alone is scored."""
        seen = steps[max(0, done - int(self.rng.integers(2, 4))) : done]
        branch = self.ids(f" seen {', '.join(seen) or 'nothing'}. so {steps[done]}")
        return branch, [0.0] * (len(branch) - 1) + [1.0]

    def text_row(self, kind: str) -> tuple[str, list[tuple[list[int], list[float]]]]:
        words = [ACTIONS[i] for i in self.rng.permutation(len(ACTIONS))]
        steps, outside = words[:RECIPE_STEPS], words[RECIPE_STEPS:]
        stages = self.rng.permutation(RECIPE_STEPS)
        among = [steps[i] for i in stages[: len(LETTERS) - 1]] + outside[:1]
        options = [among[i] for i in self.rng.permutation(len(LETTERS))]
        goal = Goal(f"{self.pick(ADJECTIVES)} {self.pick(DISHES)}", tuple(steps))
        letters = [self.look_up(options, word, True) for word in options]
        nexts = [self.next_step(steps, done) for done in range(RECIPE_STEPS)]
        if kind == "options":
            return with_options("", options), letters + [self.look_up(options, word, False) for word in options]
        if kind == "recipe":
            return goal.text + "?", nexts
        done = int(stages[0])
        seen = steps[max(0, done - int(self.rng.integers(2, 4))) : done]
        whole = self.response(seen, steps[done], LETTERS[options.index(steps[done])], False)
        prompt = chat_text(self.processor, with_options(f"What next to {goal.text}?", options))
        short = [self.look_up(options, word, False) for word in options]
        if kind == "letters":
            return prompt, letters + short
        return prompt, [*letters, *short, *nexts, self.look_up(options, outside[1], True), whole]

    def text_batch(self, rows: int, full: float) -> tuple[Packed, list[Example]]:
        """Rows without media: bare option lists, bare recipes, and (a share of `full`) whole prompts.

        Recipes are made up, so that they must be read."""
        kinds = ["full" if self.rng.random() < full else self.pick(("options", "recipe")) for _ in range(rows)]
        made = [self.text_row(kind) for kind in kinds]
        return pack(
            [self.ids(prompt) for prompt, _ in made],
            [[b for b, _ in row] for _, row in made],
            [[w for _, w in row] for _, row in made],
        ), []

    def response(
        self, seen: Sequence[str], conclusion: str, letter: str, score_seen: bool
    ) -> tuple[list[int], list[float]]:
        branch = [*self.ids(respond(seen, conclusion, letter)), self.end]
        weights = [1.0] * len(branch)
        weights[-LETTER_FROM_END] = self.letter_weight
        if not score_seen:
            first = 4  # `<` `think` `>` ` seen`
            for i in range(first, first + max(1, 2 * len(seen) - 1)):
                weights[i] = 0.0
        return branch, weights

    def noisy(self, example: Example, noise: Noise) -> tuple[list[int], list[float]]:
        answer = example.options[example.answer]
        wrong = [option for option in example.options if option != answer]
        if self.rng.random() < noise.off_list:
            conclusion = self.pick([a for a in ACTIONS if a not in example.options])
        else:
            conclusion = answer if self.rng.random() < noise.conclusion_right else self.pick(wrong)
        if conclusion in example.options and self.rng.random() < noise.letter_follows:
            letter = LETTERS[example.options.index(conclusion)]
        elif self.rng.random() < noise.letter_right:
            letter = LETTERS[example.answer]
        else:
            letter = self.pick([x for i, x in enumerate(LETTERS) if i != example.answer])
        return self.response(example.seen, conclusion, letter, True)

    def clip_batch(self, examples: Sequence[Example], rows: int, each: int, noise: Noise, dense: bool) -> tuple[Packed, list[Example]]:
        chosen = [examples[i] for i in self.rng.integers(len(examples), size=rows)]
        made = [[self.noisy(example, noise) for _ in range(each)] for example in chosen]
        if dense:
            for row, e in zip(made, chosen, strict=True):
                row += [self.look_up(e.options, word, full) for word in e.options for full in (True, False)]
                row.append(self.look_up(e.options, self.pick([a for a in ACTIONS if a not in e.options]), True))
        packed = pack(
            [e.prompt for e in chosen],
            [[b for b, _ in row] for row in made],
            [[w for _, w in row] for row in made],
            [e.positions_3L for e in chosen if e.positions_3L is not None],
        )
        return packed, chosen
