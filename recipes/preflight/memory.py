"""How much memory a run needs on each GPU, line by line. Pure: an upper estimate from counts, in bytes.

P parameters, of which U are trained; R ranks; T tokens of a micro-batch; L layers of width H (inner width F), in the
tower L', H', F' and m patches a token; V vocabulary; s bytes a number in a pass (2 in bf16).

    UPDATE                      bytes                                  gone or smaller with
    weights                     4 P/R                                  offload_policy
    gradients                   4 U/R                                  offload_policy, freeze_vision_tower
    Adam's moments              8 U/R                                  offload_policy, freeze_vision_tower
    gathered layers             s (outside layers + 2 layers) + 4 of one layer's gradient
    activations                 s T (H L + m H' L')  + the larger of  s T (8 H + 4 F)  and  s m T (8 H' + 4 F')
    logits                      4 s T V                                ppo_max_token_len_per_gpu
    reserve                     4 GiB

    GENERATION
    vLLM                        gpu_memory_utilization * the GPU's memory
    weights                     4 P/R                                  param_offload, offload_policy
    Adam's moments              8 U/R                                  optimizer_offload, offload_policy
    reserve                     4 GiB

    HOST, a node
    reference                   4 P * ranks of the node / R, pinned    (verl keeps a forward-only model there)
    offloaded weights, gradients and moments, as above, times the ranks of the node; pinned, but for moments that stay
    loading                     4 P                                    (a whole copy in rank 0; in every rank where the
                                                                        embeddings are tied, as in the 3B model)

Beside a GPU torch pins what travels between it and the host, and takes a power of two of bytes for each tensor's shard
(torch 2.11, CachingHostAllocator.h): the 7B model's copy of 31 GiB is 58.

The micro-batch counts as all video, and the logits as kept with three working copies (scaling, entropy, gradient).
With gradient checkpointing only a layer's input is kept, without it its inner activations too. The inner activations
are counted as 8 tensors of width H and 4 of width F a token; flash attention keeps none of length T x T. The reserve is
for CUDA contexts, NCCL and fragments, a guess. None of this has been compared with a GPU yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log2

from omegaconf import DictConfig

from recipes.preflight.model_size import ModelSize

GIB = 2**30
RESERVE = 4 * GIB
ACTOR = "actor_rollout_ref.actor"
OFFLOAD = "care/offload=always"


@dataclass(frozen=True)
class Plan:
    """What of a configuration its memory depends on."""

    ranks: int
    ranks_per_node: int
    tokens: int
    gpu_bytes: int
    vllm_share: float
    tensor_parallel: int
    model_length: int
    """Prompt and response, in tokens."""
    param_offload: bool
    optimizer_offload: bool
    offload_policy: bool
    checkpointing: bool
    frozen_tower: bool
    reference: bool
    number: int
    """Bytes of a number in a pass."""
    pins: bool = True
    """There is a GPU, and host memory that travels to it is pinned."""

    @classmethod
    def of(cls, config: DictConfig, *, gpu_bytes: int, reference: bool) -> Plan:
        actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
        fsdp, data = actor.fsdp_config, config.data
        float32 = (fsdp.get("mixed_precision") or {}).get("param_dtype") in ("fp32", "float32")
        return cls(
            ranks=config.trainer.nnodes * config.trainer.n_gpus_per_node,
            ranks_per_node=config.trainer.n_gpus_per_node,
            tokens=actor.ppo_max_token_len_per_gpu,
            gpu_bytes=gpu_bytes,
            vllm_share=rollout.gpu_memory_utilization,
            tensor_parallel=rollout.tensor_model_parallel_size,
            model_length=rollout.max_model_len or data.max_prompt_length + data.max_response_length,
            param_offload=fsdp.param_offload,
            optimizer_offload=fsdp.optimizer_offload,
            offload_policy=fsdp.offload_policy,
            checkpointing=config.actor_rollout_ref.model.enable_gradient_checkpointing,
            frozen_tower=actor.freeze_vision_tower,
            reference=reference,
            number=4 if float32 else 2,
            pins=config.trainer.device != "cpu",
        )


@dataclass(frozen=True)
class Line:
    name: str
    bytes: float
    mend: str
    """The override that makes it smaller."""


def update(size: ModelSize, plan: Plan) -> list[Line]:
    """A GPU during the actor's update, vLLM asleep."""
    here = not plan.offload_policy
    trained = size.parameters - size.tower * plan.frozen_tower
    inner = plan.tokens * plan.number * (8 * size.hidden + 4 * size.intermediate)
    patches = plan.tokens * size.patches_per_token
    tower_inner = patches * plan.number * (8 * size.tower_hidden + 4 * size.tower_intermediate)
    if plan.checkpointing:
        kept = plan.number * (plan.tokens * size.hidden * size.layers + patches * size.tower_hidden * size.tower_layers)
        activations = kept + max(inner, tower_inner)
    else:
        activations = inner * size.layers + tower_inner * size.tower_layers
    gathered = plan.number * (size.outside_layers + 2 * size.largest_layer) + 4 * size.largest_layer
    fewer_tokens = f"{ACTOR}.ppo_max_token_len_per_gpu={plan.model_length} or above, and shorter data.max_prompt_length"
    return [
        Line("weights", here * 4 * size.parameters / plan.ranks, OFFLOAD),
        Line("gradients", here * 4 * trained / plan.ranks, OFFLOAD),
        Line("Adam's moments", here * 8 * trained / plan.ranks, OFFLOAD),
        Line("gathered layers", gathered, "a smaller model"),
        Line(
            "activations",
            activations,
            fewer_tokens if plan.checkpointing else "actor_rollout_ref.model.enable_gradient_checkpointing=true",
        ),
        Line("logits", 4 * plan.number * plan.tokens * size.vocabulary, fewer_tokens),
        Line("reserve", RESERVE, "nothing"),
    ]


def generation(size: ModelSize, plan: Plan) -> list[Line]:
    """A GPU while vLLM is awake."""
    weights_here = not (plan.offload_policy or plan.param_offload)
    moments_here = not (plan.offload_policy or plan.optimizer_offload)
    trained = size.parameters - size.tower * plan.frozen_tower
    smaller_share = "a smaller actor_rollout_ref.rollout.gpu_memory_utilization"
    return [
        Line("vLLM", plan.vllm_share * plan.gpu_bytes, smaller_share),
        Line("weights", weights_here * 4 * size.parameters / plan.ranks, "care/offload=stages"),
        Line("Adam's moments", moments_here * 8 * trained / plan.ranks, "care/offload=optimizer"),
        Line("reserve", RESERVE, "nothing"),
    ]


def vllm_least(size: ModelSize, plan: Plan) -> float:
    """What vLLM needs of its share at least: its weights, and the cache of one response of full length.

    2 P / tensor_parallel + 2 * length * L * key_value / tensor_parallel        in bf16
    """
    cache = plan.model_length * size.layers * size.key_value
    return plan.number * (size.parameters + cache) / plan.tensor_parallel


def host(size: ModelSize, plan: Plan) -> list[Line]:
    """A node's own memory, dataset and vLLM's processes aside."""
    everything = size.tensors + size.tower_tensors
    trained = size.tensors if plan.frozen_tower else everything
    away = plan.offload_policy
    weights = _on_host(everything, plan)
    moments = 2 * _on_host(trained, plan, travels=not away)  # by the policy Adam's step is here, and they stay
    return [
        Line("reference", plan.reference * weights, "more nodes"),
        Line("weights", (away or plan.param_offload) * weights, "care/offload=optimizer"),
        Line("gradients", away * _on_host(trained, plan), "care/offload=stages"),
        Line("Adam's moments", (away or plan.optimizer_offload) * moments, "care/offload=none"),
        Line("loading", 4 * size.parameters * (plan.ranks_per_node if size.tied else 1), "a smaller model"),
    ]


def _on_host(tensors: Sequence[int], plan: Plan, travels: bool = True) -> float:
    """Bytes that a node's ranks hold of these tensors in float32: of each its shard, which is pinned if it travels."""
    shards = [4 * numbers / plan.ranks for numbers in tensors if numbers]
    if plan.pins and travels:
        shards = [2 ** ceil(log2(shard)) for shard in shards]
    return plan.ranks_per_node * sum(shards)


def checkpoint(size: ModelSize, plan: Plan) -> float:
    """Bytes of one checkpoint on disk: float32 weights, Adam's two moments, and the reference."""
    trained = size.parameters - size.tower * plan.frozen_tower
    return 4 * size.parameters + 8 * trained + plan.reference * 4 * size.parameters


def total(lines: list[Line]) -> float:
    return sum(line.bytes for line in lines)
