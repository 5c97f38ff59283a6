"""verl's actor-rollout-reference worker, with a reference that follows the actor."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path

import torch
from verl.single_controller.base.decorator import Dispatch, register
from verl.workers.engine_workers import ActorRolloutRefWorker

from verl_care.ablations.choices import ChoosingWorker
from verl_care.ablations.kl_loss import loss_for
from verl_care.on_policy import OnPolicyLoss
from verl_care.reference import EmaReference
from verl_care.vision_tower import freeze_vision_tower

_on_all_ranks = register(dispatch_mode=Dispatch.ONE_TO_ALL)  # type: ignore[attr-defined]  # verl fills the enum as it runs


def _share_cores() -> None:
    """Ray gives an actor one OpenMP thread, and one that was forked keeps all of its server's. The reference lives in
    host memory, and so does what is offloaded; on a CPU everything does. So the node's ranks share the cores that they
    may run on, unless the user says otherwise: OMP_NUM_THREADS=1 is Ray's own, any other is not."""
    if os.environ.get("OMP_NUM_THREADS", "1") == "1":
        ranks = int(os.environ.get("RAY_LOCAL_WORLD_SIZE", 1))
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // ranks))


def _keep_to_bound_cores() -> None:
    """verl binds a rank to the cores beside its GPU while it builds the model; more threads than those would wait for
    each other."""
    bound = len(os.sched_getaffinity(0))
    if torch.get_num_threads() > bound:
        torch.set_num_threads(bound)


class CareWorker(ActorRolloutRefWorker):
    """One rank. Everything it adds is a call of the trainer's that all ranks answer together."""

    ref_worker_cls = ChoosingWorker

    @_on_all_ranks
    def init_model(self) -> None:
        _share_cores()
        super().init_model()
        _keep_to_bound_cores()
        if self.actor is None:
            return
        if self.config.actor.freeze_vision_tower:
            freeze_vision_tower(self.actor.engine.module)  # type: ignore[attr-defined]
        if self.config.actor.use_kl_loss:
            self.loss_fn = loss_for(self.config.actor)
        if not self.distillation_enabled:
            self.actor.set_loss_fn(OnPolicyLoss(self.loss_fn, entropy_coeff=self.config.actor.entropy_coeff))

    @cached_property
    def _reference(self) -> EmaReference:
        assert self.actor is not None, "init_model comes first"
        assert self.ref is not None, "the trainer asked for no reference model"
        policy, reference = (worker.engine.module for worker in (self.actor, self.ref))  # type: ignore[attr-defined]
        return EmaReference(policy=policy, reference=reference)

    @_on_all_ranks
    def sees(self, file: str) -> bool:
        """Whether this rank's node has the trainer's file."""
        return Path(file).exists()

    @_on_all_ranks
    def update_reference(self, decay: float) -> float:
        """One EMA step; returns the reference's relative distance from the policy after it."""
        return self._reference.update(decay)

    @_on_all_ranks
    def save_reference(self, folder: str) -> None:
        """Write this rank's shards of the reference."""
        self._reference.save(folder)

    @_on_all_ranks
    def load_reference(self, folder: str) -> None:
        """Read this rank's shards of the reference."""
        self._reference.load(folder)
