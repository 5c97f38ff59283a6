"""Group packing: the prompt of a group, its video and text, is computed once and not once per response.

`layout` says which token goes where, `attention` keeps the responses of a group blind to each other, `engine` is verl's
FSDP engine on packed rows, `batching` keeps groups together, `architectures` lists the models it was tried with.
"""

from __future__ import annotations

from typing import Any


def choose(config: Any) -> None:
    """Write into a whole verl configuration, in place, what chooses the packed engine and the pixels stored once."""
    from verl_care.packing.engine import MODEL_TYPE

    actor_rollout_ref = config.actor_rollout_ref
    actor_rollout_ref.model.model_type = MODEL_TYPE
    actor_rollout_ref.rollout.agent.agent_loop_manager_class = "verl_care.packing.rollouts.PackedAgentLoopManager"
