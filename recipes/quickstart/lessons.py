"""What the warm start teaches: packed rows with several continuations of a prompt, and which of their tokens count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import Qwen2_5_VLProcessor

from data_prep.miniature_world import ACTIONS, ADJECTIVES, DISHES, LETTERS, RECIPE_STEPS, Goal
from recipes.quickstart.consistency_rule import parse, respond
from recipes.quickstart.examples import Example, chat_text
from recipes.quickstart.packing import Packed, pack
from verl_care.data.prompts import with_options

Branch = tuple[list[int], list[float]]  # the tokens of a continuation, and a weight each: 0 is not scored
KINDS = ("look-up", "letter", "seen", "conclusion", "form")
LOOK_UP, SCORED = 0.5, 1.0  # weights that only tell the two kinds of letter apart; see `kinds`
LETTER_FROM_END = 5  # `>B` `</` `answer` `>` `<|im_end|>`
NO_CONCLUSION = 0.5  # of the strays; the others conclude "nothing"
FIRST_SEEN = 4  # behind `<` `think` `>` ` seen`


@dataclass(frozen=True)
class Noise:
    """How a taught response comes about. Both ways to the letter stay: from the conclusion and from the clip."""

    conclusion_right: float = 1.0  # else a wrong option
    letter_follows: float = 1.0  # the letter is the conclusion's,
    letter_right: float = 0.0  # else, with this probability, the right one; else a wrong one
    off_list: float = 0.0  # share of the conclusions that are no option; their letter is any letter


class Teacher:
    """Makes packed batches of what is to be learned. All randomness comes from one generator."""

    def __init__(self, processor: Qwen2_5_VLProcessor, seed: int) -> None:
        self.processor, self.tokenizer = processor, processor.tokenizer
        self.rng = np.random.default_rng(seed)
        self.end = self.tokenizer.convert_tokens_to_ids("<|im_end|>")
        self.letter_ids = torch.tensor([self.tokenizer.convert_tokens_to_ids(f">{letter}") for letter in LETTERS])
        self.action_ids = torch.tensor([self.ids(f" {action}")[0] for action in ACTIONS])
        media = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
        self.media_ids = torch.tensor([self.tokenizer.convert_tokens_to_ids(token) for token in media])
        self.stop_ids = torch.tensor([self.ids("a,")[1], self.ids("a.")[1]])
        self.so_id = self.ids(" so")[0]
        special = self.tokenizer.get_added_vocab().values()
        words = (t for word, t in self.tokenizer.get_vocab().items() if len(word) > 1 or word in ".,")
        self.word_ids = sorted(t for t in words if t not in special)

    def ids(self, text: str) -> list[int]:
        return self.tokenizer(text)["input_ids"]

    def pick(self, among: Sequence[str]) -> str:
        return among[int(self.rng.integers(len(among)))]

    def look_up(self, options: Sequence[str], word: str, seen: Sequence[str] | None) -> Branch:
        """A word and its letter, which alone is scored; the letter of a word that is no option is any letter.

        `seen` None: the shortest form, a word and its letter side by side."""
        letter = LETTERS[options.index(word)] if word in options else self.pick(LETTERS)
        branch = self.ids(f" {word}>{letter}")
        if seen is not None:
            branch = self.ids(respond(seen, word, letter))[:-3]  # without `</` `answer` `>`
        return branch, [0.0] * (len(branch) - 1) + [LOOK_UP]

    def look_ups(self, options: Sequence[str], seen: Sequence[str], short: bool) -> list[Branch]:
        """Every option, and one word that is none. Dense pairs are what makes the look-up form at all."""
        made = [self.look_up(options, word, seen) for word in options]
        made.append(self.look_up(options, self.pick([action for action in ACTIONS if action not in options]), seen))
        return made + ([self.look_up(options, word, None) for word in options] if short else [])

    def direct(self, example: Example) -> Branch:
        """Reasoning that concludes nothing, and a letter, which alone is scored: whatever else tells it."""
        letter = self.unreasoned(example, Noise(letter_right=1.0))
        branch = self.ids(respond(example.seen, "nothing", letter))[:-3]
        return branch, [0.0] * (len(branch) - 1) + [SCORED]

    def stray(self, example: Example) -> Branch:
        """Reasoning that concludes nothing, or ends in words of any kind (`so so`, `.`, `blue`), and any letter, which
        alone is scored. Without it a letter that can be had without reasoning is likely behind no reasoning as well."""
        letter = self.pick(LETTERS)
        branch = self.ids(respond(example.seen, "nothing", letter))[:-3]
        if self.rng.random() < NO_CONCLUSION:
            so = len(branch) - 1 - branch[::-1].index(self.so_id)
            words = [int(word) for word in self.rng.choice(self.word_ids, size=self.rng.integers(3))]
            strayed = branch[:so] + [self.so_id] * int(self.rng.integers(3)) + words + branch[so + 2 :]
            read = parse(self.tokenizer.decode(strayed) + "</answer>")
            branch = branch if read and read[0] in ACTIONS else strayed
        return branch, [0.0] * (len(branch) - 1) + [SCORED]

    def seen(self, steps: Sequence[str], done: int) -> tuple[str, ...]:
        return tuple(steps[max(0, done - int(self.rng.integers(2, 4))) : done])

    def next_step(self, steps: Sequence[str], done: int) -> Branch:
        """The step behind the last one seen, which alone is scored."""
        branch = self.ids(f" seen {', '.join(self.seen(steps, done)) or 'nothing'}. so {steps[done]}")
        return branch, [0.0] * (len(branch) - 1) + [SCORED]

    def response(self, seen: Sequence[str], conclusion: str, letter: str, score_seen: bool) -> Branch:
        branch = [*self.ids(respond(seen, conclusion, letter)), self.end]
        weights = [SCORED] * len(branch)
        if not score_seen:  # without a clip it cannot be known
            for i in range(FIRST_SEEN, FIRST_SEEN + max(2, 2 * len(seen))):  # the full stop as well
                weights[i] = 0.0
        return branch, weights

    def noisy_response(self, example: Example, noise: Noise) -> Branch:
        answer = example.options[example.answer]
        if self.rng.random() < noise.off_list:
            conclusion = self.pick([action for action in ACTIONS if action not in example.options])
        elif self.rng.random() < noise.conclusion_right:
            conclusion = answer
        else:
            conclusion = self.pick([option for option in example.options if option != answer])
        letter = self.letter(example, conclusion, noise)
        return self.response(example.seen, conclusion, letter, score_seen=True)

    def letter(self, example: Example, conclusion: str, noise: Noise) -> str:
        if conclusion not in example.options:
            return self.pick(LETTERS)
        if self.rng.random() < noise.letter_follows:
            return LETTERS[example.options.index(conclusion)]
        return self.unreasoned(example, noise)

    def unreasoned(self, example: Example, noise: Noise) -> str:
        """A letter that has nothing to do with the conclusion."""
        if self.rng.random() < noise.letter_right:
            return LETTERS[example.answer]
        return self.pick([x for i, x in enumerate(LETTERS) if i != example.answer])

    def text_row(self, with_recipe: bool, short: bool) -> tuple[list[int], list[Branch]]:
        """A prompt without media; its recipe is made up, so that it must be read."""
        words = [ACTIONS[i] for i in self.rng.permutation(len(ACTIONS))]
        steps, outside = words[:RECIPE_STEPS], words[RECIPE_STEPS:]
        stages = self.rng.permutation(RECIPE_STEPS)
        among = [steps[i] for i in stages[: len(LETTERS) - 1]] + outside[:1]
        options = [among[i] for i in self.rng.permutation(len(LETTERS))]
        goal = Goal(f"{self.pick(ADJECTIVES)} {self.pick(DISHES)}", tuple(steps))
        prompt = self.ids(chat_text(self.processor, with_options(f"What next to {goal.text}?", options)))
        branches = self.look_ups(options, self.seen(steps, int(stages[0])), short)
        if with_recipe:
            branches += [self.next_step(steps, done) for done in range(RECIPE_STEPS)]
            done = int(stages[0])
            letter = LETTERS[options.index(steps[done])]
            branches.append(self.response(self.seen(steps, done), steps[done], letter, score_seen=False))
        return prompt, branches

    def text_batch(self, rows: int, with_recipe: bool, short: bool) -> Packed:
        made = [self.text_row(with_recipe, short) for _ in range(rows)]
        branches = [row for _, row in made]
        return pack(
            [prompt for prompt, _ in made], [[b for b, _ in r] for r in branches], [[w for _, w in r] for r in branches]
        )

    def clip_batch(
        self,
        examples: Sequence[Example],
        rows: int,
        responses: int,
        noise: Noise,
        look_ups: bool,
        short: bool,
        direct: bool = False,
        strays: int = 0,
    ) -> tuple[Packed, list[Example]]:
        chosen = [examples[i] for i in self.rng.integers(len(examples), size=rows)]
        branches = [[self.noisy_response(example, noise) for _ in range(responses)] for example in chosen]
        if look_ups:
            for row, example in zip(branches, chosen, strict=True):
                row += self.look_ups(example.options, example.seen, short)
        if direct:
            for row, example in zip(branches, chosen, strict=True):
                row.append(self.direct(example))
        for row, example in zip(branches, chosen, strict=True):
            row += [self.stray(example) for _ in range(strays)]
        packed = pack(
            [e.prompt for e in chosen],
            [[b for b, _ in row] for row in branches],
            [[w for _, w in row] for row in branches],
            [e.positions_3L for e in chosen if e.positions_3L is not None],
        )
        return packed, chosen

    def kinds(self, packed: Packed) -> dict[str, Tensor]:
        """Masks over the scored tokens. The loss averages within a kind, so that rare kinds are not drowned."""
        letter = torch.isin(packed.target_T, self.letter_ids)
        source_T = packed.tokens_RL[packed.row_T, packed.source_T]
        conclusion = source_T == self.so_id
        stops = torch.isin(source_T, self.action_ids) & torch.isin(packed.target_T, self.stop_ids)  # how many there are
        seen = (torch.isin(packed.target_T, self.action_ids) | stops) & ~conclusion
        look_up = letter & (packed.weight_T < SCORED)
        masks = (look_up, letter & ~look_up, seen, conclusion, ~(letter | conclusion | seen))
        return dict(zip(KINDS, masks, strict=True))
