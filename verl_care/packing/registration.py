"""The packed engine for GPUs in verl's registry; the one for CPUs is registered by `platforms.cpu`, beside verl's."""

from verl.workers.engine.base import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead

from verl_care.packing.engine import MODEL_TYPE, GroupPacking


@EngineRegistry.register(model_type=MODEL_TYPE, backend=["fsdp2"], device="cuda")
class PackedFSDPEngine(GroupPacking, FSDPEngineWithLMHead):
    """`care.packing=true` on a GPU."""
