"""The reference model beside the policy: moved after it, measured against it, saved and restored.

Works on the two sharded modules of one rank; every rank calls it in step. Knows torch, not verl.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from verl_care.algorithm.ema import distance_sums, ema_update_


class EmaReference:
    """Keeps `reference` as the exponential moving average of `policy` (float32 shards, arXiv 2506.16141, 3.3)."""

    def __init__(self, policy: nn.Module, reference: nn.Module):
        self._policy, self._reference = policy, reference
        names, theirs = [name for name, _ in policy.named_parameters()], [n for n, _ in reference.named_parameters()]
        if names != theirs:
            differing = sorted(set(names) ^ set(theirs))[:3] or "their order"
            raise ValueError(
                f"policy and reference differ in their parameters, namely {differing}:"
                " both must be loaded from actor_rollout_ref.model.path"
            )

    def update(self, decay: float) -> float:
        """Move the reference one step towards the policy; return its relative distance from it afterwards."""
        reference, policy = _shards(self._reference), _shards(self._policy)
        ema_update_(list(reference.values()), list(policy.values()), decay)
        return self.distance()

    def distance(self) -> float:
        """|reference - policy| / |policy|, over all parameters and ranks."""
        reference, policy = _shards(self._reference), _shards(self._policy)
        # On the CPU: verl's process group has a backend there on every platform, wherever the shards are.
        sums = distance_sums(list(reference.values()), list(policy.values())).cpu()
        if dist.is_initialized():
            dist.all_reduce(sums)
        return float((sums[0] / sums[1]).sqrt())

    def save(self, folder: str | os.PathLike) -> None:
        """Write this rank's shards to `folder`; a file is there whole or not at all."""
        from safetensors.torch import save_file

        path = _shard_file(folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".unfinished")
        shards = {name: shard.detach().cpu().contiguous() for name, shard in _shards(self._reference).items()}
        save_file(shards, unfinished, metadata={"format": "pt", "verl_care": json.dumps({"shard": path.name})})
        os.replace(unfinished, path)

    def load(self, folder: str | os.PathLike) -> None:
        """Read this rank's shards from `folder`.

        Raises:
            FileNotFoundError: if this world size never saved there.
            ValueError: if the file is damaged, or its shards belong to another model.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = _shard_file(folder)
        if not path.exists():
            there = sorted(file.name for file in Path(folder).glob("*.safetensors"))
            raise FileNotFoundError(
                f"no reference shard {path}; found {there or 'none'}. A checkpoint resumes on as many ranks as saved"
                " it: set trainer.nnodes and trainer.n_gpus_per_node as they were"
            )
        try:
            saved = load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged ({error}): resume from an earlier checkpoint") from error
        shards = _shards(self._reference)
        differing = saved.keys() ^ shards.keys() or [name for name in shards if saved[name].shape != shards[name].shape]
        if differing:
            raise ValueError(f"{path} holds another model's parameters: {sorted(differing)[:3]} differ")
        with torch.no_grad():
            for name, shard in shards.items():
                shard.copy_(saved[name])


def shard_file_name(rank: int, world_size: int) -> str:
    """verl's naming of per-rank files, for the reference."""
    return f"reference_world_size_{world_size}_rank_{rank}.safetensors"


def _shard_file(folder: str | os.PathLike) -> Path:
    initialized = dist.is_initialized()
    rank, world_size = (dist.get_rank(), dist.get_world_size()) if initialized else (0, 1)
    return Path(folder) / shard_file_name(rank, world_size)


def _shards(module: nn.Module) -> dict[str, Tensor]:
    """Name -> this rank's shard, sharing memory with the parameter."""
    from torch.distributed.fsdp import FSDPModule
    from torch.distributed.tensor import DTensor

    if torch.accelerator.is_available():
        torch.accelerator.synchronize()  # verl offloads without waiting for its copies (utils/fsdp_utils.py:197)
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.reshard()  # between two passes a root may still hold gathered parameters
    return {
        name: parameter.to_local() if isinstance(parameter, DTensor) else parameter.data
        for name, parameter in module.named_parameters()
    }
