"""Which runs the evidence is made of: a variant is what it overrides of `care_quickstart`, a seed is a model's and a
training's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

VARIANTS: dict[str, tuple[str, ...]] = {
    "grpo": ("care/method=grpo",),
    "no_kl": ("care/method=no_kl",),
    "care": ("care/method=care",),
    "kl_ema": ("care/method=kl_ema",),
    "dense_cons": ("care/method=dense_cons",),
    "ref_gen": ("care/method=ref_gen",),
    "ref_gen_greedy": ("care/method=ref_gen", "care.refgen_answer=greedy"),
    "care_frozen": ("care/method=care", "care.reference=frozen"),
    "care_at_once": ("care/method=care", "care.ref_ema_decay=0", "care.ref_ema_update_every=1"),
    "care_margin": ("care/method=care", "care.consistency_margin=0.01"),
    "care_arithmetic": ("care/method=care", "care.likelihood_mean=arithmetic"),
}
FAST = ("grpo", "no_kl", "care")
BY_NAME = ("ref_gen_greedy",)
"""In no plan: it has no signal here (tried.md)."""
MEASURES_ITS_WARM_START = "no_kl"  # one validation before training is enough for all runs of a seed
LESSONS = 2
"""Which warm starts are taught (`warm_start.py`). Those of the first had a hole, see tried.md."""
SETTINGS = (
    "data.train_batch_size=4",  # prompts, with 8 responses each, as in the paper
    "actor_rollout_ref.actor.optim.lr=2e-4",
    "care.consistency_measures=[likelihood]",
    "care.groups_per_step=-1",  # every likelihood counts in the calibration
    "trainer.logger=[file]",
    "trainer.save_freq=100",
    "trainer.max_actor_ckpt_to_keep=1",
)


@dataclass(frozen=True)
class Run:
    variant: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.variant}_{self.seed}"

    def overrides(self, steps: int) -> list[str]:
        """Of `care_quickstart`. The seed decides the order of the prompts and what is sampled."""
        return [
            *VARIANTS[self.variant],
            *SETTINGS,
            f"trainer.total_training_steps={steps}",
            f"trainer.val_before_train={self.variant == MEASURES_ITS_WARM_START}",
            f"trainer.experiment_name={self.name}",
            f"data.seed={self.seed}",
            f"actor_rollout_ref.rollout.seed={self.seed}",
            f"actor_rollout_ref.actor.data_loader_seed={self.seed}",
        ]


@dataclass(frozen=True)
class Plan:
    variants: tuple[str, ...]
    seeds: tuple[int, ...]
    steps: int

    def __iter__(self) -> Iterator[Run]:
        """The claim's own variants first, then seed by seed: an evidence stopped half-way has whole comparisons."""
        first = [variant for variant in self.variants if variant in FAST]
        rest = [variant for variant in self.variants if variant not in FAST]
        return (Run(variant, seed) for group in (first, rest) for seed in self.seeds for variant in group)


FULL = Plan(tuple(variant for variant in VARIANTS if variant not in BY_NAME), seeds=(0, 1, 2, 3, 4), steps=400)
QUICK = Plan(FAST, seeds=(0, 1, 2), steps=200)
