"""verl's validation on servers that load the model themselves: no actor, no optimizer, no reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ray
from verl.trainer.ppo.v1.trainer_base import register_trainer

from verl_care.trainer import CareTrainer
from verl_care.workers import CareWorker


class ServingWorker(CareWorker):
    """A rank whose GPU the server has alone: with the role `rollout`, verl builds no actor on it."""

    def __init__(self, config: Any, role: str, **kwargs: Any):
        super().__init__(config, role="rollout", **kwargs)


@register_trainer("care_evaluate")
class EvaluationTrainer(CareTrainer):
    """`trainer.v1.trainer_mode=care_evaluate`: `trainer.val_only`, and its weights are the folder's."""

    def _init_resource_pool_mgr(self) -> None:
        super()._init_resource_pool_mgr()
        (role,) = self.role_worker_mapping  # verl looks it up by this name, whatever it builds
        self.role_worker_mapping[role] = ray.remote(ServingWorker)

    def record_root(self) -> Path:
        return Path(self.config.trainer.default_local_dir)  # `evaluation.run`: every start adds to the same answers

    def _settle_old_log_probs(self) -> bool:
        return False  # nothing is updated

    def on_init_end(self) -> None:
        """No weight sync: vLLM has loaded `actor_rollout_ref.model.path` (`rollout.load_format=auto`)."""
