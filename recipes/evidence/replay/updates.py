"""The updates of a recorded training, made once more in plain PyTorch.

Its rewards are taken as they are, and its advantages are made of them by verl_care's own `group_advantage`. Loss, KL,
gradient, clipping, AdamW and a reference that follows are made here, without verl, step upon step from the warm start.

A record has texts, not tokens: where the tokenizer's spelling is improbable or has another length, the likeliest one
is taken (`spelling.py`). A response for which none is found keeps the tokenizer's; `Replay.lost` counts these.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from omegaconf import OmegaConf
from torch import Tensor
from torch.nn.utils import parameters_to_vector
from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

from recipes.evidence.replay.spelling import likeliest, pieces_of
from recipes.quickstart.examples import Example, load_chunk, scored_logits
from recipes.quickstart.packing import Packed, pack
from verl_care.algorithm.advantage import group_advantage
from verl_care.records import groups, jsonl

WANTED = {
    "algorithm.adv_estimator": "care",
    "algorithm.norm_adv_by_std_in_grpo": True,
    "algorithm.use_kl_in_reward": False,
    "care.kl_on": "all",
    "care.kl_parts": "joint",
    "actor_rollout_ref.rollout.temperature": 1.0,
    "actor_rollout_ref.actor.policy_loss.loss_mode": "vanilla",
    "actor_rollout_ref.actor.loss_agg_mode": "seq-mean-token-mean",
    "actor_rollout_ref.actor.kl_loss_type": "low_var_kl",
    "actor_rollout_ref.actor.entropy_coeff": 0,
    "actor_rollout_ref.actor.ppo_epochs": 1,
    "actor_rollout_ref.actor.freeze_vision_tower": False,
    "actor_rollout_ref.actor.optim.optimizer": "AdamW",
    "actor_rollout_ref.actor.optim.lr_scheduler_type": "constant",
    "actor_rollout_ref.actor.optim.lr_warmup_steps": 0,
}
"""What an update made here has; a training with anything else is refused."""
IMPROBABLE = -5.0  # log-probability of a token that makes a spelling doubtful


@dataclass(frozen=True)
class Update:
    """What a configuration says of an update."""

    lr: float
    betas: tuple[float, float]
    weight_decay: float
    clip: float
    kl: float
    decay: float | None
    """Of the reference; None: it stays."""
    every: int

    @classmethod
    def of(cls, config: Any) -> Update:
        """
        Raises:
            ValueError: naming what is not made here.
        """
        actor = config.actor_rollout_ref.actor
        optim = actor.optim
        for key, wanted in WANTED.items():
            found = OmegaConf.select(config, key)
            if found != wanted:
                raise ValueError(f"{key} was {found}: only a training with {wanted} is made once more here")
        if actor.ppo_mini_batch_size != config.data.train_batch_size:
            raise ValueError(f"ppo_mini_batch_size was {actor.ppo_mini_batch_size}: a step has one update here")
        written, prompts = config.care.groups_per_step, config.data.train_batch_size
        if written != groups.ALL and written < prompts:
            raise ValueError(
                f"care.groups_per_step was {written}: of {prompts} groups a step, the others are not known"
            )
        kl = actor.kl_loss_coef if actor.use_kl_loss else 0.0
        decay = None if config.care.reference == "frozen" else config.care.ref_ema_decay
        every = config.care.ref_ema_update_every
        return cls(optim.lr, tuple(optim.betas), optim.weight_decay, optim.clip_grad, kl, decay, every)


@dataclass(frozen=True)
class Step:
    """Of one update."""

    gradient: float
    """Norm, before clipping."""
    entropy: float
    """Of the policy before it: mean over responses of the mean over tokens."""
    moved: float
    """Root mean square of what the weights changed by, in learning rates."""


class Replay:
    def __init__(self, model: Qwen2_5_VLForConditionalGeneration, tokenizer: Any, update: Update) -> None:
        self.policy, self.update, self.tokenizer = model, update, tokenizer
        self.reference = deepcopy(model).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=update.lr, betas=update.betas, weight_decay=update.weight_decay
        )
        self.end = tokenizer.convert_tokens_to_ids("<|im_end|>")
        self.pieces = pieces_of(tokenizer)
        pads = {model.config.image_token_id, model.config.video_token_id}
        self.silent = [token for token in tokenizer.added_tokens_decoder if token not in {self.end, *pads}]
        self.steps = self.respelled = self.lost = 0

    def step(self, examples: Sequence[Example], recorded: Sequence[Mapping[str, Any]]) -> Step:
        """The update by these groups, a question's example for each."""
        written = [group["responses"] for group in recorded]
        tokens = self._spell(examples, written)
        group_N = [g for g, group in enumerate(written) for _ in group]
        reward_N = torch.tensor([response["reward"] for group in written for response in group])
        advantage_N = group_advantage(reward_N, group_N)

        packed = _packed(examples, tokens)
        logits = scored_logits(self.policy, packed, examples)
        log_prob_T = _of(logits, packed.target_T)
        length_N = torch.tensor([len(response) for group in tokens for response in group])
        owner_T = torch.arange(len(length_N)).repeat_interleave(length_N)
        loss_T = -(log_prob_T - log_prob_T.detach()).exp() * advantage_N[owner_T]
        if self.update.kl:
            with torch.no_grad():
                reference_T = _of(scored_logits(self.reference, packed, examples), packed.target_T)
            further_T = (reference_T - log_prob_T).clamp(-20, 20)
            loss_T = loss_T + self.update.kl * (further_T.exp() - further_T - 1).clamp(-10, 10)

        def mean(value_T: Tensor) -> Tensor:
            return (value_T / length_N[owner_T]).sum() / len(length_N)

        self.optimizer.zero_grad()
        mean(loss_T).backward()
        norm = torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.update.clip)
        before = parameters_to_vector(self.policy.parameters()).detach().clone()
        self.optimizer.step()
        self.steps += 1
        moved_W = parameters_to_vector(self.policy.parameters()).detach() - before
        if self.update.decay is not None and self.steps % self.update.every == 0:
            self._follow(self.update.decay)
        with torch.no_grad():
            entropy_T = torch.distributions.Categorical(logits=logits).entropy()
            moved = float(moved_W.square().mean().sqrt()) / self.update.lr
            return Step(float(norm), float(mean(entropy_T)), moved)

    @torch.no_grad()
    def _follow(self, decay: float) -> None:
        for theirs, ours in zip(self.reference.parameters(), self.policy.parameters(), strict=True):
            theirs.lerp_(ours, 1 - decay)

    @torch.no_grad()
    def _spell(
        self, examples: Sequence[Example], written: Sequence[Sequence[Mapping[str, Any]]]
    ) -> list[list[list[int]]]:
        """The tokens of every response."""
        tokens = [[self._as_tokenized(response) for response in group] for group in written]
        packed = _packed(examples, tokens)
        log_prob_T = _of(scored_logits(self.policy, packed, examples), packed.target_T)
        least = iter([float(part.min()) for part in log_prob_T.split([len(r) for group in tokens for r in group])])
        known: dict[tuple[str, str, int], list[int] | None] = {}
        for example, group, responses in zip(examples, written, tokens, strict=True):
            for place, response in enumerate(group):
                if next(least) >= IMPROBABLE and len(responses[place]) == response["length"]:
                    continue
                key = (example.id, response["text"], response["length"])
                if key not in known:
                    known[key] = self._likeliest(example, response)
                spelled = known[key]
                if spelled is None:
                    self.lost += 1
                elif spelled != responses[place]:
                    self.respelled += 1
                    responses[place] = spelled
        return tokens

    def _as_tokenized(self, response: Mapping[str, Any]) -> list[int]:
        tokens = self.tokenizer(response["text"], add_special_tokens=False)["input_ids"]
        return [*tokens, self.end] if response["finish"] == "stop" else tokens

    def _likeliest(self, example: Example, response: Mapping[str, Any]) -> list[int] | None:
        def log_probs(beginnings: Sequence[Sequence[int]]) -> Tensor:
            # whatever stands behind a beginning: it is not looked at
            asked = [[*beginning, self.end] for beginning in beginnings]
            weights = [[*(0.0 for _ in beginning), 1.0] for beginning in beginnings]
            assert example.positions_3L is not None
            packed = pack([example.prompt], [asked], [weights], [example.positions_3L])
            return scored_logits(self.policy, packed, [example]).log_softmax(-1)

        end = self.end if response["finish"] == "stop" else None
        return likeliest(log_probs, self.pieces, response["text"], response["length"], end, self.silent)


def _packed(examples: Sequence[Example], tokens: Sequence[Sequence[Sequence[int]]]) -> Packed:
    everything = [[[1.0] * len(response) for response in group] for group in tokens]
    positions = [example.positions_3L for example in examples if example.positions_3L is not None]
    return pack([example.prompt for example in examples], tokens, everything, positions)


def _of(logits_TV: Tensor, target_T: Tensor) -> Tensor:
    return logits_TV.log_softmax(-1).gather(1, target_T[:, None])[:, 0]


def replay(training: Path, model: Path, data: Path, steps: int | None = None) -> Iterator[tuple[int, Step, Replay]]:
    """(step, what it was here, the replay behind it), from the first step to the last or to `steps`.

    Raises:
        ValueError: for a step that the record lacks.
    """
    processor = AutoProcessor.from_pretrained(model)
    policy = Qwen2_5_VLForConditionalGeneration.from_pretrained(model).float()
    made = Replay(policy, processor.tokenizer, Update.of(OmegaConf.load(training / "config.yaml")))
    rows = {row["extra_info"]["id"]: row for row in pq.read_table(data / "training_6k.parquet").to_pylist()}
    recorded_steps = sorted(_by_step(groups.valid(jsonl.read(groups.place(training)))).items())
    for number, (step, recorded) in enumerate(recorded_steps[:steps], start=1):
        if step != number:
            raise ValueError(f"{groups.place(training)} lacks step {number}: no step behind it can be made once more")
        examples = load_chunk([rows[group["id"]] for group in recorded], processor, policy)
        yield step, made.step(examples, recorded), made


def _by_step(records: Iterable[Mapping[str, Any]]) -> dict[int, list[Mapping[str, Any]]]:
    found: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for record in records:
        found[record["step"]].append(record)
    return found
