"""Warm-start the miniature on data with the temptation: both ways to the letter are known, and loosely tied.

    python -m recipes.evidence.warm_start --data DATA --out MODEL --seed 0

`DATA` has been through `recipes.evidence.temptation`. The quick start's lessons first, as far as the look-up of a
word's letter; then letters without a conclusion, which are the lamp's; then responses of `LOOSE`, whose letter is the
conclusion's with `letter_follows` and else the lamp's. Last, the letter of a word that is no option, and of reasoning
that concludes nothing, is taught to be any letter: a reference that knows no letter there does not pay for it. The seed
decides the first weights, the rows and the noise. The same seed gives the same weights on the same machine with one
thread. `tried.md` has what was tried before these settings.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from transformers import Qwen2_5_VLProcessor

from recipes.evidence.temptation import lamps
from recipes.quickstart.examples import Example, load_examples
from recipes.quickstart.lessons import Noise, Teacher
from recipes.quickstart.model import build_model, build_processor
from recipes.quickstart.probe import CONCLUSIONS, letter_likelihoods
from recipes.quickstart.warm_start import EVEN, STAGES, Stage, train

FIRM = Noise(conclusion_right=0.5, letter_follows=0.5, off_list=0.06)
LOOSE = Noise(conclusion_right=0.4, letter_follows=0.2, off_list=0.06)
LOOKED_UP = replace(STAGES[2], steps=150)
TEMPTED = (
    *STAGES[:2],
    LOOKED_UP,
    Stage(80, 0.6, (2, 2, 2, 1, 0.2), clips=12, texts=3, direct=True, noise=FIRM),
    Stage(160, 0.05, EVEN, clips=16, texts=2, responses=3, look_ups=False, strays=1, noise=LOOSE),
)


class TemptedTeacher(Teacher):
    """A letter is the conclusion's, or it is the lamp's."""

    def __init__(self, processor: Qwen2_5_VLProcessor, seed: int, lamps: Mapping[str, str]) -> None:
        """`lamps`: id of a row -> letter."""
        super().__init__(processor, seed)
        self.lamps = lamps

    def unreasoned(self, example: Example, noise: Noise) -> str:
        return self.lamps[example.id]


TRAINED_ON = "training_6k"
PROBED = 256  # rows
OWN_AT_LEAST, OTHERS_AT_MOST = 0.7, 0.4  # as taught: .84 where the lamp is right in .8, and one in four


def hole(likelihoods: Mapping[str, float]) -> str | None:
    """Why this warm start's likelihood would pay for reasoning that concludes in no option, or None if it does not.

    Args:
        likelihoods: of the right letter behind each kind of conclusion, from `letter_likelihoods`. `another option` is
            the temptation, and may be anything below the letter's own.
    """
    own, another, *others = (likelihoods[name] for name in CONCLUSIONS)
    if own >= OWN_AT_LEAST and another < own and max(others) <= OTHERS_AT_MOST:
        return None
    found = ", ".join(f"{name} {value:.3f}" for name, value in likelihoods.items())
    return (
        f"likelihood of the right letter behind a conclusion: {found}. The first has to be {OWN_AT_LEAST} or more and "
        f"above the second, the others {OTHERS_AT_MOST} or less, else the bonus would pay for reasoning that concludes "
        "nothing: take another --seed"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with training_6k.parquet and lamps")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    processor = build_processor()
    model = build_model(processor.tokenizer, args.seed)
    examples = load_examples(args.data / f"{TRAINED_ON}.parquet", processor, model)
    train(model, TemptedTeacher(processor, args.seed, lamps(args.data, TRAINED_ON)), examples, TEMPTED)
    probed = load_examples(args.data / "validation_L1.parquet", processor, model, limit=PROBED)
    if problem := hole(letter_likelihoods(model, processor, probed)):
        raise SystemExit(problem)
    unfinished = args.out.with_name(f"{args.out.name}.unfinished")
    model.save_pretrained(unfinished)
    processor.save_pretrained(unfinished)
    unfinished.rename(args.out)  # whole or not there


if __name__ == "__main__":
    main()
