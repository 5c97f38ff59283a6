"""Sizes of which one must divide or hold another. verl 0.9.1 finds out when models are loaded, days later, or never."""

from __future__ import annotations

from collections.abc import Iterator

from omegaconf import DictConfig, OmegaConf

from verl_care import on_policy
from verl_care.settings import CareConfig

RANKS = ("trainer.nnodes", "trainer.n_gpus_per_node")
PARALLEL = ("tensor_model_parallel", "data_parallel", "pipeline_model_parallel")
SERVER = tuple(f"actor_rollout_ref.rollout.{name}_size" for name in PARALLEL)
BATCHES = ("data.train_batch_size", "actor_rollout_ref.actor.ppo_mini_batch_size")


def problems(care: CareConfig, config: DictConfig) -> Iterator[str]:
    """One line for each size that does not go with another."""
    unusable = [key for key in (*RANKS, *SERVER, *BATCHES) if not _counts(OmegaConf.select(config, key))]
    for key in unusable:
        yield f"{key}={OmegaConf.select(config, key)}: a count, so 1 at least. Set {key} to a whole number from 1 on."
    if unusable:
        return
    yield from _servers(config)
    if not config.trainer.get("val_only"):
        yield from _updates(config)
    yield from _micro_batches(care, config)


def _counts(value: object) -> bool:
    return isinstance(value, int) and value >= 1


def _servers(config: DictConfig) -> Iterator[str]:
    trainer, rollout = config.trainer, config.actor_rollout_ref.rollout
    ranks = trainer.nnodes * trainer.n_gpus_per_node
    tensor, data, pipeline = (rollout[f"{name}_size"] for name in PARALLEL)
    if pipeline != 1:
        yield (
            f"actor_rollout_ref.rollout.pipeline_model_parallel_size={pipeline}: verl 0.9.1 has none with vLLM. Set"
            " actor_rollout_ref.rollout.pipeline_model_parallel_size=1."
        )
    if ranks % (tensor * data):
        yield (
            f"actor_rollout_ref.rollout.tensor_model_parallel_size={tensor}, data_parallel_size={data}: a vLLM server"
            f" has {tensor * data} GPUs, which do not divide the run's {ranks} (trainer.nnodes *"
            " trainer.n_gpus_per_node). Set actor_rollout_ref.rollout.tensor_model_parallel_size and"
            " data_parallel_size so that their product does."
        )


def _updates(config: DictConfig) -> Iterator[str]:
    trainer, actor, n = config.trainer, config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout.n
    whole, mini = config.data.train_batch_size, actor.ppo_mini_batch_size
    if whole % mini:
        yield (
            f"actor_rollout_ref.actor.ppo_mini_batch_size={mini} of data.train_batch_size={whole}: verl fills the last"
            " update up with empty responses, which its mean counts. Set"
            " actor_rollout_ref.actor.ppo_mini_batch_size to a divisor of data.train_batch_size."
        )
    ranks, sequence = trainer.nnodes * trainer.n_gpus_per_node, _ulysses(actor, actor.fsdp_config)
    if _counts(n) and mini * n * sequence % ranks:
        yield (
            f"actor_rollout_ref.actor.ppo_mini_batch_size={mini}, actor_rollout_ref.rollout.n={n}: the {mini * n}"
            f" responses of an update cannot be shared equally by {ranks // sequence} ranks. Set"
            " actor_rollout_ref.actor.ppo_mini_batch_size, actor_rollout_ref.rollout.n or trainer.n_gpus_per_node so"
            " that the ranks divide them."
        )


def _micro_batches(care: CareConfig, config: DictConfig) -> Iterator[str]:
    """A micro-batch must hold the longest row: with dynamic batch sizes one that does not fit ends the run."""
    data, (actor, ref, rollout) = config.data, (config.actor_rollout_ref[name] for name in ("actor", "ref", "rollout"))
    trains = not config.trainer.get("val_only")
    sequence = _ulysses(actor, actor.fsdp_config)
    row, told = data.max_prompt_length + data.max_response_length, set()
    if rollout.max_model_len:
        row = min(row, rollout.max_model_len)
    for key, applies, node, dynamic, size in (
        ("actor.ppo_max_token_len_per_gpu", trains, actor, actor.use_dynamic_bsz, sequence),
        (
            "rollout.log_prob_max_token_len_per_gpu",
            trains and any(on_policy.needs_old_log_probs(config)),
            rollout,
            rollout.log_prob_use_dynamic_bsz,
            sequence,
        ),
        (
            "ref.log_prob_max_token_len_per_gpu",
            care.needs_reference(config),
            ref,
            ref.log_prob_use_dynamic_bsz,
            _ulysses(ref, ref.fsdp_config),
        ),
    ):
        budget = node[key.partition(".")[2]]
        tokens = budget * size if _counts(budget) else 0
        if applies and dynamic and tokens < row and budget not in told:
            told.add(budget)  # the other two are the actor's, unless they are set
            yield (
                f"actor_rollout_ref.{key}={budget}: a micro-batch of {tokens} tokens cannot hold the {row} of a"
                f" prompt (data.max_prompt_length={data.max_prompt_length}) with its response"
                f" (data.max_response_length={data.max_response_length}), and the first that is too long would end the"
                f" run. Set actor_rollout_ref.{key} to {-(-row // size)} or more, or lower those."
            )


def _ulysses(*nodes: DictConfig) -> int:
    """Ranks that share a row. verl's engine takes the role's own key where it is above 1."""
    return max(node.get("ulysses_sequence_parallel_size", 1) for node in nodes)
