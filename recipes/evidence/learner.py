"""One step of GRPO in plain PyTorch: what the simulator and the replay of a training do with responses and rewards."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_, parameters_to_vector
from transformers import Qwen2_5_VLForConditionalGeneration

from recipes.quickstart.examples import Example, scored_logits
from recipes.quickstart.packing import pack
from verl_care.algorithm.advantage import group_advantage


@dataclass(frozen=True)
class Update:
    lr: float
    clip: float
    """Of the gradient's norm."""
    kl: float = 0.0
    """Weight of the KL term against the reference, as the k3 estimator has it."""
    decay: float | None = None
    """Of a reference that follows; None: it stays."""
    every: int = 1
    """Steps from one move of the reference to the next."""
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01


@dataclass(frozen=True)
class Step:
    """Of one update."""

    gradient: float
    """Norm, before clipping."""
    entropy: float
    """Of the policy before it: mean over responses of the mean over tokens."""
    moved: float
    """Root mean square of what the weights changed by, in learning rates."""


def token_logits(
    model: Qwen2_5_VLForConditionalGeneration, examples: Sequence[Example], responses: Sequence[Sequence[int]]
) -> tuple[Tensor, Tensor, Tensor]:
    """(logits (T, vocabulary), tokens (T,), the response each belongs to (T,)) of responses, in order, as many for each
    example."""
    group = len(responses) // len(examples)
    rows = [list(responses[i : i + group]) for i in range(0, len(responses), group)]
    packed = pack(
        [e.prompt for e in examples],
        rows,
        [[[1.0] * len(response) for response in row] for row in rows],
        [e.positions_3L for e in examples if e.positions_3L is not None],
    )
    owner_T = torch.repeat_interleave(torch.arange(len(responses)), torch.tensor([len(r) for r in responses]))
    return scored_logits(model, packed, examples), packed.target_T, owner_T


def token_log_probs(
    model: Qwen2_5_VLForConditionalGeneration, examples: Sequence[Example], responses: Sequence[Sequence[int]]
) -> Tensor:
    """(T,): log-probability of every response token, responses in order."""
    logits_TV, token_T, _ = token_logits(model, examples, responses)
    return _of(logits_TV, token_T)


def _of(logits_TV: Tensor, token_T: Tensor) -> Tensor:
    return logits_TV.log_softmax(-1).gather(1, token_T[:, None])[:, 0]


def k3(log_prob_T: Tensor, reference_T: Tensor) -> Tensor:
    """(T,): exp(r - l) - (r - l) - 1, with verl's limits (`low_var_kl`): a token that is far enough has no gradient."""
    further_T = (reference_T - log_prob_T).clamp(-20, 20)
    return (further_T.exp() - further_T - 1).clamp(-10, 10)


class Learner:
    def __init__(self, model: Qwen2_5_VLForConditionalGeneration, update: Update) -> None:
        self.policy, self.update, self.steps = model, update, 0
        self.reference = deepcopy(model).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=update.lr, betas=update.betas, weight_decay=update.weight_decay
        )

    def learn(self, examples: Sequence[Example], responses: Sequence[Sequence[int]], reward_N: Tensor) -> Step:
        """One on-policy update by these responses, as many for each example, in order."""
        logits_TV, token_T, owner_T = token_logits(self.policy, examples, responses)
        log_prob_T = _of(logits_TV, token_T)
        length_N = torch.bincount(owner_T, minlength=len(responses))
        group_N = torch.arange(len(examples)).repeat_interleave(len(responses) // len(examples))
        loss_T = -(log_prob_T - log_prob_T.detach()).exp() * group_advantage(reward_N, group_N)[owner_T]
        if self.update.kl:
            with torch.no_grad():
                reference_T = token_log_probs(self.reference, examples, responses)
            loss_T = loss_T + self.update.kl * k3(log_prob_T, reference_T)

        def mean(value_T: Tensor) -> Tensor:
            return (value_T / length_N[owner_T]).sum() / len(responses)

        self.optimizer.zero_grad()
        mean(loss_T).backward()
        norm = clip_grad_norm_(self.policy.parameters(), self.update.clip)
        before_W = parameters_to_vector(self.policy.parameters()).detach()
        self.optimizer.step()
        self.steps += 1
        self._follow()
        with torch.no_grad():
            moved_W = parameters_to_vector(self.policy.parameters()) - before_W
            entropy_T = torch.distributions.Categorical(logits=logits_TV).entropy()
            moved = float(moved_W.square().mean().sqrt()) / self.update.lr
            return Step(float(norm), float(mean(entropy_T)), moved)

    @torch.no_grad()
    def _follow(self) -> None:
        if self.update.decay is None or self.steps % self.update.every:
            return
        for theirs, ours in zip(self.reference.parameters(), self.policy.parameters(), strict=True):
            theirs.lerp_(ours, 1 - self.update.decay)
