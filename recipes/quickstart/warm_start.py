"""Warm-start the miniature model on reasoning whose conclusion and letter are only loosely tied.

    python -m recipes.quickstart.warm_start --data data/miniature --out data/miniature_model

`--data` is the folder of converted parquet files (`data_prep.seed_bench_r1 ... --prompt plain`). The same seed gives
the same weights on the same machine with one thread.

A plain warm start never learns to look a word up among shuffled options; the likelihood of a letter then cannot tell
an option from a word that is none. So every row first carries dense pairs of word and letter beside the response
(`lessons`), and only the last stages loosen the tie between conclusion and letter.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import Qwen2_5_VLForConditionalGeneration

from recipes.quickstart.examples import Example, load_examples, scored_logits
from recipes.quickstart.lessons import KINDS, Noise, Teacher
from recipes.quickstart.model import build_model, build_processor
from recipes.quickstart.packing import Packed

WARM_UP = 25
MUON_DECAY = 0.5  # keeps the matrices near their first size; without it whatever is learned later is learned slowly
LOG_RARE, MEDIA_WEIGHT = -18.0, 0.02


@dataclass(frozen=True)
class Stage:
    steps: int
    rate: float  # the learning rate's factor at the end of the stage; it moves there in a straight line
    weights: tuple[float, ...]  # of look-up, letter, seen, conclusion, form (`lessons.KINDS`)
    clips: int  # rows with media
    texts: int  # rows without
    recipes: bool = True  # the rows without media also ask for the next step
    responses: int = 1  # a row with media
    look_ups: bool = True
    short: bool = False
    direct: bool = False  # a letter without a conclusion as well
    strays: int = 0  # letters behind no conclusion, a row with media
    noise: Noise = field(default_factory=Noise)


LOOSE = Noise(conclusion_right=0.55, letter_follows=0.6, letter_right=0.7, off_list=0.02)
EVEN = (1, 1, 1, 1, 0.2)
STAGES = (
    Stage(110, 1.0, (3, 0, 0, 0, 0), clips=0, texts=16, recipes=False, short=True),  # a word's letter
    Stage(300, 0.9, (2, 1, 1, 2, 0.2), clips=10, texts=6, short=True),  # the next step of a recipe, the patterns
    Stage(250, 0.7, (2, 1, 2, 1, 0.2), clips=12, texts=5),
    Stage(150, 0.1, (2, 2, 2, 1, 0.2), clips=14, texts=4),  # right nearly always, and consistent
    Stage(60, 0.25, EVEN, clips=16, texts=2, responses=3, look_ups=False, noise=LOOSE),
    Stage(120, 0.03, EVEN, clips=16, texts=2, responses=3, look_ups=False, noise=LOOSE),
)


def optimizers(model: Qwen2_5_VLForConditionalGeneration, lr: float, muon_lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the language model's matrices, AdamW for the rest: the look-up forms several times sooner than with
    AdamW alone (word to letter among shuffled options: 25 s instead of minutes)."""
    language = model.model.language_model
    matrices = [p for name, p in language.named_parameters() if p.ndim == 2 and "embed" not in name]
    taken = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in taken]
    return [
        torch.optim.Muon(matrices, lr=muon_lr, weight_decay=MUON_DECAY, momentum=0.95),
        torch.optim.AdamW(rest, lr=lr, weight_decay=0.01, betas=(0.9, 0.98)),
    ]


def losses(
    model: Qwen2_5_VLForConditionalGeneration, teacher: Teacher, packed: Packed, examples: Sequence[Example]
) -> dict[str, Tensor]:
    """Mean cross-entropy of each kind of token there is, and how likely media tokens still are.

    A sampled `<|image_pad|>` would be a picture without pixels. verl's server never samples one, but the policy that is
    trained keeps its probability, so it has to be less than 10^-7.
    """
    logits = scored_logits(model, packed, examples)
    entropy_T = F.cross_entropy(logits, packed.target_T, reduction="none")
    found = {kind: entropy_T[mask].mean() for kind, mask in teacher.kinds(packed).items() if mask.any()}
    media_T = logits[:, teacher.media_ids].logsumexp(-1) - logits.logsumexp(-1)
    return found | {"media": (media_T - LOG_RARE).relu().mean()}


def train(
    model: Qwen2_5_VLForConditionalGeneration,
    teacher: Teacher,
    examples: Sequence[Example],
    stages: Sequence[Stage],
    lr: float = 3e-3,
    muon_lr: float = 0.02,
    report_every: int = 20,
    after: Callable[[int], None] | None = None,
) -> None:
    opts = optimizers(model, lr, muon_lr)
    base = [opt.param_groups[0]["lr"] for opt in opts]
    started, done, rate = time.monotonic(), 0, stages[0].rate
    for number, stage in enumerate(stages, start=1):
        seen: dict[str, list[float]] = defaultdict(list)
        weights = dict(zip(KINDS, stage.weights, strict=True)) | {"media": MEDIA_WEIGHT}
        for step in range(1, stage.steps + 1):
            now = min(1.0, (done + 1) / WARM_UP) * (rate + (stage.rate - rate) * step / stage.steps)
            for opt, its_base in zip(opts, base, strict=True):
                opt.param_groups[0]["lr"] = its_base * now
            parts = []
            if stage.clips:
                clip, chosen = teacher.clip_batch(
                    examples,
                    stage.clips,
                    stage.responses,
                    stage.noise,
                    stage.look_ups,
                    stage.short,
                    stage.direct,
                    stage.strays,
                )
                parts.append((1.0, "", losses(model, teacher, clip, chosen)))
            if stage.texts:
                text = teacher.text_batch(stage.texts, stage.recipes, stage.short)
                parts.append((0.5, "text ", losses(model, teacher, text, [])))
            loss = torch.stack([share * weights[k] * v for share, _, part in parts for k, v in part.items()]).sum()
            model.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for opt in opts:
                opt.step()
            done += 1
            for _, prefix, part in parts:
                for kind, value in part.items():
                    seen[prefix + kind].append(float(value.detach()))
            if step % report_every == 0:
                means = "  ".join(f"{kind} {sum(v) / len(v):.2f}" for kind, v in seen.items())
                print(f"{time.monotonic() - started:4.0f} s  stage {number} step {step:3d}  {means}", flush=True)
                seen.clear()
        rate = stage.rate
        if after:
            after(number)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with training_6k.parquet")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--again", action="store_true", help="train even if --out holds a model")
    args = parser.parse_args()
    if (args.out / "model.safetensors").is_file() and not args.again:
        print(f"{args.out} holds a model, which is kept (--again trains a new one)")
        return
    torch.set_num_threads(args.threads)
    processor = build_processor()
    model = build_model(processor.tokenizer, args.seed)
    examples = load_examples(args.data / "training_6k.parquet", processor, model)
    train(model, Teacher(processor, args.seed), examples, STAGES)
    model.save_pretrained(args.out)
    processor.save_pretrained(args.out)


if __name__ == "__main__":
    main()
