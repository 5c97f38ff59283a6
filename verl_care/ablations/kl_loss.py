"""verl's policy loss with a KL term that is weighted token by token; the worker sets it through `set_loss_fn`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from omegaconf import DictConfig, OmegaConf
from tensordict import TensorDict
from torch import Tensor
from verl.trainer.ppo.core_algos import agg_loss, kl_penalty
from verl.utils.config import omega_conf_to_dataclass
from verl.utils.metric import Metric
from verl.workers.config import ActorConfig
from verl.workers.utils.losses import ppo_loss
from verl.workers.utils.padding import no_padding_2_padding

KL_WEIGHT = "kl_weight"  # the field of a response that holds its weights, (T,)

Loss = Callable[..., tuple[Tensor, dict[str, Any]]]


def loss_for(actor: DictConfig) -> Loss:
    """The loss for the node `actor_rollout_ref.actor`, of which `use_kl_loss` is true."""
    node = DictConfig(OmegaConf.to_container(actor, resolve=True))
    node.use_kl_loss = False  # verl's own, unweighted term
    without_kl = omega_conf_to_dataclass(node)
    return partial(weighted_kl_loss, config=omega_conf_to_dataclass(actor), without_kl=without_kl)


def weighted_kl_loss(
    config: ActorConfig,
    without_kl: ActorConfig,
    model_output: dict[str, Any],
    data: TensorDict,
    dp_group: Any = None,
) -> tuple[Tensor, dict[str, Any]]:
    """loss = policy loss + kl_loss_coef * mean of (weight * KL estimate), both means by `loss_agg_mode`.

    The same as verl's `ppo_loss` where all weights are 1, metrics included, and verl's itself where the data holds no
    weights. The weight is a factor of the term, so the gradient is exactly the weighted one.

    Args:
        config: the actor's.
        without_kl: the same with `use_kl_loss` false.
        model_output: holds `log_probs` of prompt and response.
        data: a micro-batch with `ref_log_prob`, `response_mask` and perhaps `kl_weight` of the responses.
    """
    if KL_WEIGHT not in data:
        return ppo_loss(config, model_output, data, dp_group)
    loss, metrics = ppo_loss(without_kl, model_output, data, dp_group)
    log_prob_NT = no_padding_2_padding(model_output["log_probs"], data)
    fields = data.select("response_mask", "ref_log_prob", KL_WEIGHT).to_padded_tensor()
    kl_NT = kl_penalty(log_prob_NT, fields["ref_log_prob"], config.kl_loss_type)  # type: ignore[arg-type]
    kl_loss = agg_loss(
        loss_mat=kl_NT * fields[KL_WEIGHT],
        loss_mask=fields["response_mask"].bool(),
        loss_agg_mode=config.loss_agg_mode,
        **without_kl.global_batch_info,
    )
    metrics["kl_loss"] = Metric(value=kl_loss, aggregation=metrics["actor/pg_loss"].aggregation)
    metrics["kl_coef"] = config.kl_loss_coef
    return loss + config.kl_loss_coef * kl_loss, metrics
