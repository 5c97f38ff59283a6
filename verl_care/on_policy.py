"""No separate pass for old log-probabilities where the updated policy is the one they would come from.

With one update per batch the ratio pi_theta / pi_old is exactly 1 when the loss is taken, and its gradient is that of
log pi_theta. The update's own log-probabilities, detached, are then the old ones: verl 0.9.1 computes the same numbers
in a full forward pass before (`_compute_old_log_prob`, trainer_base.py:1634). Micro-batches of one optimizer step do
not change that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from omegaconf import DictConfig
from tensordict import TensorDict

from verl_care.rollout_gap import LARGEST, SUMS, gap_metrics, gap_sums

_GAP = "rollout_gap/"  # verl puts "actor/" before it


def updates_per_batch(config: DictConfig) -> int:
    """Optimizer steps that verl takes with one batch of `data.train_batch_size` prompts."""
    actor = config.actor_rollout_ref.actor
    return actor.ppo_epochs * -(-config.data.train_batch_size // actor.ppo_mini_batch_size)


def needs_old_log_probs(config: DictConfig) -> Iterator[str]:
    """The settings that need log-probabilities from before the update, as `key=value`."""
    actor, algorithm = config.actor_rollout_ref.actor, config.algorithm
    if actor.ppo_epochs > 1:
        yield f"actor_rollout_ref.actor.ppo_epochs={actor.ppo_epochs}"
    if actor.ppo_mini_batch_size < config.data.train_batch_size:
        mini, whole = actor.ppo_mini_batch_size, config.data.train_batch_size
        yield f"actor_rollout_ref.actor.ppo_mini_batch_size={mini} of {whole}"
    if algorithm.use_kl_in_reward:
        yield "algorithm.use_kl_in_reward=true"
    correction = algorithm.get("rollout_correction") or {}
    for key in ("bypass_mode", "rollout_is", "rollout_rs"):
        if correction.get(key):
            yield f"algorithm.rollout_correction.{key}={correction[key]}"
    if (config.get("distillation") or {}).get("enabled"):
        yield "distillation.enabled=true"


class OnPolicyLoss:
    """verl's loss of one micro-batch, which takes a batch without `old_log_probs` for a strictly on-policy one.

    It then gives the loss the current log-probabilities, detached, and reports what verl would have computed from the
    old ones: how far they are from the rollout's. A batch that has `old_log_probs` goes to verl's loss as it is.
    """

    def __init__(self, loss: Callable[..., Any], entropy_coeff: float):
        self._loss, self._entropy_is_a_term = loss, entropy_coeff != 0

    def __call__(self, model_output: dict, data: TensorDict, dp_group: Any = None) -> tuple[Any, dict]:
        from verl.workers.utils.padding import response_from_nested

        if "entropy" in model_output and not self._entropy_is_a_term:
            # verl would send 0 * entropy through the backward pass
            model_output = model_output | {"entropy": model_output["entropy"].detach()}
        if "old_log_probs" in data:
            return self._loss(model_output=model_output, data=data, dp_group=dp_group)
        data = data.copy()
        log_probs = model_output["log_probs"].detach()
        data["old_log_probs"] = response_from_nested(log_probs, data["response_mask"])
        loss, metrics = self._loss(model_output=model_output, data=data, dp_group=dp_group)
        return loss, metrics | _gap_to_rollout(data)


def _gap_to_rollout(data: TensorDict) -> dict[str, Any]:
    """The sums of `gap_sums` for one micro-batch; none where the rollout kept no log-probabilities."""
    if "rollout_log_probs" not in data:
        return {}
    from verl.utils.metric import AggregationType, Metric

    padded = data.select("old_log_probs", "rollout_log_probs", "response_mask").to_padded_tensor()
    sums = gap_sums(padded["old_log_probs"], padded["rollout_log_probs"], padded["response_mask"].bool())
    # verl takes the mean of what ranks have summed
    total: dict[str, Any] = {f"{_GAP}{name}": sums[name] * data["dp_size"] for name in SUMS}
    largest: dict[str, Any] = {f"{_GAP}{LARGEST}": sums[LARGEST]}
    return Metric.from_dict(total, AggregationType.SUM) | Metric.from_dict(largest, AggregationType.MAX)


def restore_metrics(metrics: dict[str, Any]) -> None:
    """Give a step's metrics, in place, the names and meaning they have when verl computes old log-probabilities."""
    total = {name: metrics.pop(f"actor/{_GAP}{name}") for name in (*SUMS, LARGEST) if f"actor/{_GAP}{name}" in metrics}
    if total:
        metrics |= gap_metrics(total)
    if "actor/entropy_loss" in metrics:
        metrics.setdefault("actor/entropy", metrics["actor/entropy_loss"])
