"""Training of the miniature in plain PyTorch, without verl: minutes instead of an hour, to choose a warm start by.

    python -m recipes.evidence.simulator --model MODEL --data DATA --method care --seed 100 --out run.json

The same rows, processor, rewards, bonus and advantage as a run through verl, and the same update: 4 prompts x 8
responses at temperature 1, one on-policy step of AdamW. (A likelihood is that of one letter; an answer of another form
has none here.) It decides nothing that is reported: results come from verl. Seeds below 100 belong to the evidence and
are refused.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoProcessor, DynamicCache, Qwen2_5_VLForConditionalGeneration

from recipes.evidence.learner import Learner, Update, token_log_probs
from recipes.evidence.measure import Response, measure
from recipes.quickstart.examples import Example, embed, load_examples
from recipes.quickstart.packing import Packed
from verl_care.algorithm.consistency import consistency_bonus
from verl_care.rewards.grading import has_format

TUNING_SEEDS = 100  # the first of them
METHODS = ("no_kl", "grpo", "care", "frozen", "dense_cons")
KL = 0.04
LETTER_FROM_END = 5  # `>B` `</` `answer` `>` `<|im_end|>`
NEW_TOKENS = 32
AT_ONCE = 128  # rows that are answered together
END = "<|im_end|>"
ONE_LETTER = re.compile(r"(?:(?!<answer>).)*<answer>[A-Z]</answer>", re.DOTALL)
SHOWN = ("accuracy", "consistency", "right_reason", "right_contradicted", "conclusion_right", "unsupported", "auc")


@dataclass(frozen=True)
class Settings:
    method: str = "care"
    seed: int = TUNING_SEEDS
    steps: int = 200
    lr: float = 2e-4
    clip: float = 5.0  # of the gradient's norm
    prompts: int = 4
    group: int = 8
    margin: float = 0.0
    decay: float = 0.995
    every: int = 10
    evaluate_every: int = 100

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method {self.method!r}: not one of {', '.join(METHODS)}")
        if self.seed < TUNING_SEEDS:
            raise ValueError(f"seed {self.seed} belongs to the evidence; settings are chosen on {TUNING_SEEDS} and up")

    @property
    def update(self) -> Update:
        decay = self.decay if self.method in ("care", "dense_cons") else None
        return Update(self.lr, self.clip, KL if self.method == "grpo" else 0.0, decay, self.every)


@torch.no_grad()
def sample(
    model: Qwen2_5_VLForConditionalGeneration,
    examples: Sequence[Example],
    group: int,
    end: int,
    generator: torch.Generator,
    greedy: bool = False,
) -> list[list[int]]:
    """`group` responses of each example, in order, each with its end-of-turn token if it came. None has a media token,
    a picture without pixels: verl forbids them too."""
    forbidden = [model.config.image_token_id, model.config.video_token_id]
    longest = max(len(e.prompt) for e in examples)
    packed = _left_padded(examples, longest)
    language = model.model.language_model
    text_config: Any = model.config.text_config
    cache = DynamicCache(config=text_config)
    visible = torch.tensor([[0] * (longest - len(e.prompt)) + [1] * len(e.prompt) for e in examples])
    hidden = language(
        inputs_embeds=embed(model, packed, examples),
        position_ids=packed.positions_3RL,
        attention_mask=visible,
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state[:, -1]
    cache.batch_repeat_interleave(group)
    hidden = hidden.repeat_interleave(group, 0)
    visible = visible.repeat_interleave(group, 0)
    position = packed.positions_3RL.amax(dim=(0, 2)).repeat_interleave(group) + 1
    responses: list[list[int]] = [[] for _ in range(len(hidden))]
    done = torch.zeros(len(hidden), dtype=torch.bool)
    for step in range(NEW_TOKENS):
        logits = model.lm_head(hidden)
        logits[:, forbidden] = -torch.inf
        token = logits.argmax(-1) if greedy else torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]
        for response, t, over in zip(responses, token.tolist(), done.tolist(), strict=True):
            if not over:
                response.append(t)
        done |= token == end
        if done.all():
            break
        visible = F.pad(visible, (0, 1), value=1)
        hidden = language(
            inputs_embeds=language.embed_tokens(token[:, None]),
            position_ids=(position + step).expand(3, -1)[..., None],
            attention_mask=visible,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state[:, -1]
    return responses


def _left_padded(examples: Sequence[Example], longest: int) -> Packed:
    none = torch.empty(0, dtype=torch.long)
    tokens = torch.zeros(len(examples), longest, dtype=torch.long)
    positions = torch.zeros(3, len(examples), longest, dtype=torch.long)
    for r, example in enumerate(examples):
        assert example.positions_3L is not None
        tokens[r, longest - len(example.prompt) :] = torch.tensor(example.prompt)
        positions[:, r, longest - len(example.prompt) :] = example.positions_3L
    return Packed(tokens, positions, none, none, none, none, none)


def judge(
    tokenizer: Any,
    examples: Sequence[Example],
    responses: Sequence[Sequence[int]],
    end: int,
) -> list[Response]:
    group = len(responses) // len(examples)
    return [
        Response.of(
            text,
            examples[i // group].options,
            examples[i // group].answer,
            len(tokens),
        )
        for i, (text, tokens) in enumerate(zip(texts_of(tokenizer, responses, end), responses, strict=True))
    ]


def texts_of(tokenizer: Any, responses: Sequence[Sequence[int]], end: int) -> list[str]:
    return [tokenizer.decode([t for t in tokens if t != end]) for tokens in responses]


def letter_probabilities(log_prob_T: Tensor, responses: Sequence[Sequence[int]], texts: Sequence[str]) -> Tensor:
    """(N,): probability of the answer's letter; NaN where a response's first closed answer is no letter, or not its
    end."""
    stops = torch.tensor([len(r) for r in responses]).cumsum(0)
    letter_N = log_prob_T[(stops - LETTER_FROM_END).clamp(min=0)].exp()
    read_N = torch.tensor([ONE_LETTER.fullmatch(text) is not None for text in texts])
    return torch.where(read_N, letter_N, torch.nan)


class Simulator(Learner):
    def __init__(self, model: Qwen2_5_VLForConditionalGeneration, processor: Any, settings: Settings) -> None:
        super().__init__(model, settings.update)
        self.settings = settings
        self.tokenizer = processor.tokenizer
        self.end = self.tokenizer.convert_tokens_to_ids(END)
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.rng = np.random.default_rng(settings.seed)
        self.order: list[int] = []

    def batch(self, rows: Sequence[Example]) -> list[Example]:
        if len(self.order) < self.settings.prompts:
            self.order = self.rng.permutation(len(rows)).tolist()
        return [rows[self.order.pop()] for _ in range(self.settings.prompts)]

    def step(self, rows: Sequence[Example]) -> dict[str, float]:
        s, examples = self.settings, self.batch(rows)
        responses = sample(self.policy, examples, s.group, self.end, self.generator)
        judged = judge(self.tokenizer, examples, responses, self.end)
        group_N = torch.arange(len(examples)).repeat_interleave(s.group)
        with torch.no_grad():
            reference_T = token_log_probs(self.reference, examples, responses)
        texts = texts_of(self.tokenizer, responses, self.end)
        likelihood_N = letter_probabilities(reference_T, responses, texts)
        accuracy_N = torch.tensor([float(r.right_letter) for r in judged])
        bonus = {"care": "hard", "frozen": "hard", "dense_cons": "dense"}.get(s.method, "none")
        result = consistency_bonus(
            accuracy_N,
            likelihood_N,
            group_N,
            bonus=bonus,  # pyright: ignore[reportArgumentType]
            consistency_margin=s.margin,
        )
        format_N = torch.tensor([float(has_format(text)) for text in texts])
        learned = self.learn(examples, responses, accuracy_N + format_N + result.bonus_N)
        selected = result.selected_N
        logged = measure(judged, likelihood_N.tolist()) | {"step": self.steps, "gradient": learned.gradient}
        logged["format"] = float(format_N.mean())
        if selected.any():
            logged["bonus_rate"] = float((result.bonus_N[selected] > 0).float().mean())
        return logged


def answers(
    model: Qwen2_5_VLForConditionalGeneration, tokenizer: Any, rows: Sequence[Example], greedy: bool = False
) -> list[list[int]]:
    """One response to each row, sampled at temperature 1 or greedy."""
    end, generator = tokenizer.convert_tokens_to_ids(END), torch.Generator().manual_seed(0)
    parts = [rows[i : i + AT_ONCE] for i in range(0, len(rows), AT_ONCE)]
    return [response for part in parts for response in sample(model, part, 1, end, generator, greedy)]


def evaluate(model: Qwen2_5_VLForConditionalGeneration, tokenizer: Any, rows: Sequence[Example]) -> dict[str, float]:
    """What one sampled response to each row measures."""
    end = tokenizer.convert_tokens_to_ids(END)
    return measure(judge(tokenizer, rows, answers(model, tokenizer, rows), end))


def run(
    model: Qwen2_5_VLForConditionalGeneration,
    processor: Any,
    rows: Sequence[Example],
    levels: dict[str, Sequence[Example]],
    settings: Settings,
    report_every: int = 20,
) -> dict[str, Any]:
    """The settings, what every step measured on its own rollouts, and the levels before, between and after."""
    torch.manual_seed(settings.seed)
    simulator, started, steps = Simulator(model, processor, settings), time.monotonic(), []

    def at(step: int) -> dict[str, Any]:
        return {"step": step} | {n: evaluate(model, processor.tokenizer, level) for n, level in levels.items()}

    evaluations = [at(0)]
    for number in range(1, settings.steps + 1):
        steps.append(simulator.step(rows))
        if number % report_every == 0:
            print(f"{time.monotonic() - started:4.0f} s  step {number:3d}  {_means(steps[-report_every:])}", flush=True)
        if number % settings.evaluate_every == 0 or number == settings.steps:
            evaluations.append(at(number))
    return {"settings": asdict(settings), "steps": steps, "evaluations": evaluations}


def _means(steps: Sequence[dict[str, float]]) -> str:
    means = {name: np.nanmean([step.get(name, np.nan) for step in steps]) for name in SHOWN}
    return "  ".join(f"{name} {value:.2f}" for name, value in means.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder with the converted parquet files")
    parser.add_argument("--out", type=Path, required=True)
    for name, value in asdict(Settings()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    arguments = vars(parser.parse_args())
    source, data, out = (arguments.pop(name) for name in ("model", "data", "out"))
    torch.set_num_threads(1)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(source).float()
    processor = AutoProcessor.from_pretrained(source)
    rows, *levels = (
        load_examples(data / f"{name}.parquet", processor, model)
        for name in ("training_6k", "validation_L1", "validation_L2", "validation_L3")
    )
    result = run(model, processor, rows, dict(zip(("L1", "L2", "L3"), levels, strict=True)), Settings(**arguments))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
