"""verl's policy loss with a KL term that is weighted token by token; set through `set_loss_fn`."""

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


def loss_for(actor: DictConfig) -> Callable[..., tuple[Tensor, dict[str, Any]]]:
    """The loss for a worker group's `set_loss_fn`. `actor` is the node `actor_rollout_ref.actor`."""
    node = DictConfig(OmegaConf.to_container(actor, resolve=True))
    node.use_kl_loss = False  # verl's own, unweighted term
    return partial(weighted_kl_loss, config=omega_conf_to_dataclass(node))


def weighted_kl_loss(
    config: ActorConfig, model_output: dict[str, Any], data: TensorDict, dp_group: Any = None
) -> tuple[Tensor, dict[str, Any]]:
    """loss = policy loss + kl_loss_coef * mean of (weight * KL estimate), both means by `loss_agg_mode`.

    The same as verl's `ppo_loss` with `use_kl_loss=true` where all weights are 1, metrics included. The weight is a
    factor of the term itself, so the gradient is exactly the weighted one.

    Args:
        config: verl's, with `use_kl_loss` false.
        model_output: holds `log_probs` of prompt and response.
        data: a micro-batch with `ref_log_prob`, `response_mask` and `kl_weight` of the responses.
    """
    loss, metrics = ppo_loss(config, model_output, data, dp_group)
    log_prob_NT = no_padding_2_padding(model_output["log_probs"], data)
    fields = data.select("response_mask", "ref_log_prob", KL_WEIGHT).to_padded_tensor()
    kl_NT = kl_penalty(log_prob_NT, fields["ref_log_prob"], config.kl_loss_type)  # type: ignore[arg-type]
    kl_loss = agg_loss(
        loss_mat=kl_NT * fields[KL_WEIGHT],
        loss_mask=fields["response_mask"].bool(),
        loss_agg_mode=config.loss_agg_mode,
        **config.global_batch_info,
    )
    metrics["kl_loss"] = Metric(value=kl_loss, aggregation=metrics["actor/pg_loss"].aggregation)
    metrics["kl_coef"] = config.kl_loss_coef
    return loss + config.kl_loss_coef * kl_loss, metrics
