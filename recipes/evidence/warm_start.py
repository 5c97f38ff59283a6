"""Warm-start the miniature on data with the temptation: both ways to the letter are known, and loosely tied.

    python -m recipes.evidence.warm_start --data DATA --out MODEL --seed 0

`DATA` has been through `recipes.evidence.temptation`. The quick start's lessons first, as far as the look-up of a
word's letter; then letters without a conclusion, which only the lamp tells; then responses of `LOOSE`, whose letter is
sometimes the conclusion's and else the lamp's. The seed decides the first weights, the rows and the noise. The same
seed gives the same weights on the same machine with one thread. `tried.md` has what was tried before these settings.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import torch

from recipes.quickstart.examples import load_examples
from recipes.quickstart.lessons import Noise, Teacher
from recipes.quickstart.model import build_model, build_processor
from recipes.quickstart.probe import CONCLUSIONS, letter_likelihoods
from recipes.quickstart.warm_start import EVEN, STAGES, Stage, train

FIRM = Noise(conclusion_right=0.5, letter_follows=0.5, letter_right=1.0)
LOOSE = Noise(conclusion_right=0.2, letter_follows=0.4, letter_right=0.9, off_list=0.02)
TEMPTED = (
    *STAGES[:3],
    Stage(80, 0.6, (2, 2, 2, 1, 0.2), clips=12, texts=3, direct=True, noise=FIRM),
    Stage(100, 0.05, EVEN, clips=16, texts=2, responses=3, look_ups=False, noise=LOOSE),
)

PROBED = 128  # rows
OWN_AT_LEAST, OTHERS_AT_MOST = 0.45, 0.35  # one letter in four is a quarter


def hole(likelihoods: Mapping[str, float]) -> str | None:
    """Why this warm start's likelihood could not tell consistent from inconsistent reasoning, or None if it can.

    Args:
        likelihoods: of a random letter behind each kind of conclusion, from `letter_likelihoods`.
    """
    own, *others = (likelihoods[name] for name in CONCLUSIONS)
    if own >= OWN_AT_LEAST and max(others) <= OTHERS_AT_MOST:
        return None
    found = ", ".join(f"{name} {value:.3f}" for name, value in likelihoods.items())
    return (
        f"likelihood of a letter behind a conclusion: {found}. The first has to be {OWN_AT_LEAST} or more, the others "
        f"{OTHERS_AT_MOST} or less, else the bonus would pay for anything: take another --seed"
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
    examples = load_examples(args.data / "training_6k.parquet", processor, model)
    train(model, Teacher(processor, args.seed), examples, TEMPTED)
    probed = load_examples(args.data / "validation_L1.parquet", processor, model, limit=PROBED)
    if problem := hole(letter_likelihoods(model, processor, probed)):
        raise SystemExit(problem)
    model.save_pretrained(args.out)
    processor.save_pretrained(args.out)


if __name__ == "__main__":
    main()
