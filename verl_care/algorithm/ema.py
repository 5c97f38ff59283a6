"""The slowly moving reference: an exponential moving average of the policy, kept in float32 shards. Pure.

Source: the reference model of GRPO-CARE (arXiv 2506.16141); `moving_average` in `trainer/ema_trainer.py` of the
release, called there every 10 optimizer steps with decay 0.995.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

_CPU_BLOCK = 1 << 19  # elements, 2 MB of float32
_GPU_BLOCK = 1 << 24  # there a launch costs more than the cache saves


@torch.no_grad()
def ema_update_(reference: Sequence[Tensor], policy: Sequence[Tensor], decay: float) -> None:
    """Move the reference a little towards the policy, in place.

        reference <- decay * reference + (1 - decay) * policy

    Args:
        reference: float32 tensors, or DTensors, of which each rank moves its own shard.
        policy: the same parameters in the same order, sharded alike; any real dtype, any device.
        decay: in [0, 1]. 1 leaves every bit of the reference alone, 0 copies the policy.

    Raises:
        TypeError: a reference tensor that is not float32.
        ValueError: tensors that do not pair up, decay outside [0, 1].

    Memory: nothing where the policy is float32 on the same device, else one block of a shard (2 MB on a CPU).
    Speed: that of memory; per element it reads twice and writes once, where a copy reads once and writes once
    (`benchmarks/ema_speed.py`).

    Deviations from the release:

    1. It updates gathered copies, which ZeRO-3 throws away on several GPUs. Shards are what stays.
    2. It averages in bfloat16, where 0.005 of a small difference is below the rounding and lost. So the reference has
       to be float32 here.
    """
    if not 0 <= decay <= 1:
        raise ValueError(f"decay is {decay}, but an average needs it in [0, 1]: the published runs use 0.995")
    pairs = _paired_shards(reference, policy)
    for number, (ref, _) in enumerate(pairs):
        if ref.dtype != torch.float32:
            raise TypeError(
                f"reference[{number}] is {ref.dtype}, in which small steps round to nothing: keep it in torch.float32"
            )
    if decay == 1:
        return  # 0 * (policy - reference) would still turn an infinite weight of the policy into NaN
    alike = [(ref, pol) for ref, pol in pairs if (pol.dtype, pol.device) == (ref.dtype, ref.device)]
    if alike:
        refs, pols = (list(side) for side in zip(*alike, strict=True))
        torch._foreach_lerp_(refs, pols, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]
    others = [(ref, pol) for ref, pol in pairs if (pol.dtype, pol.device) != (ref.dtype, ref.device)]
    for ref, pol, _ in _blocks(others):
        ref.lerp_(pol, 1 - decay)


@torch.no_grad()
def distance_sums(reference: Sequence[Tensor], policy: Sequence[Tensor]) -> Tensor:
    """The two sums behind the relative distance |reference - policy| / |policy|, over the shards of this rank.

    Returns:
        float64, (2,): sum of (reference - policy)^2, sum of policy^2; each block's in float32, good to about 1e-5. Add
        those of all ranks (one all-reduce), then take the root of their ratio.

    Raises:
        ValueError: tensors that do not pair up.
    """
    pairs = _paired_shards(reference, policy)
    sums = torch.zeros(2, dtype=torch.float64, device=pairs[0][0].device if pairs else None)
    for ref, pol, scratch in _blocks(pairs):
        size = torch.linalg.vector_norm(pol)
        distance = torch.linalg.vector_norm(torch.sub(ref, pol, out=scratch))
        sums += torch.stack([distance, size]).double().square()
    return sums


def _blocks(pairs: Sequence[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """The pairs in pieces small enough for a cache: reference, policy in the reference's type, memory for a result.

    Both are valid until the next piece; the result may be written over the policy's piece where that was converted.
    """
    memory: Tensor | None = None
    for ref, pol in pairs:
        size = _CPU_BLOCK if ref.device.type == "cpu" else _GPU_BLOCK
        flat = ref.is_contiguous() and pol.is_contiguous()
        pieces = zip(ref.view(-1).split(size), pol.view(-1).split(size), strict=True) if flat else [(ref, pol)]
        for piece, other in pieces:
            if memory is None or memory.numel() < piece.numel() or memory.device != piece.device:
                memory = torch.empty(max(size, piece.numel()), dtype=ref.dtype, device=ref.device)
            scratch = memory[: piece.numel()].view(piece.shape)
            alike = (other.dtype, other.device) == (piece.dtype, piece.device)
            yield piece, other if alike else scratch.copy_(other), scratch


def _paired_shards(reference: Sequence[Tensor], policy: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """This rank's part of each parameter, as (reference, policy)."""
    if len(reference) != len(policy):
        raise ValueError(
            f"reference has {len(reference)} tensors and policy {len(policy)}: pass the same parameters of both"
        )
    pairs = [(_local(ref), _local(pol)) for ref, pol in zip(reference, policy, strict=True)]
    for number, (ref, pol) in enumerate(pairs):
        if ref.shape != pol.shape:
            raise ValueError(
                f"reference[{number}] has local shape {tuple(ref.shape)} and policy[{number}] {tuple(pol.shape)}: "
                "both must list the same parameters in the same order, sharded alike"
            )
    return pairs


def _local(tensor: Tensor) -> Tensor:
    """A DTensor's shard on this rank shares its memory, so what is done to it in place stays done."""
    to_local = getattr(tensor, "to_local", None)
    return tensor if to_local is None else to_local()
