"""Checkpoints that are whole or not there, with the reference in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

from omegaconf import DictConfig, open_dict

from verl_care.checkpoints import folders, resume
from verl_care.settings import CareConfigError


class WholeCheckpoints:
    """Mixin before verl's trainer: what it saves is marked when it is complete, and only that is gone on from."""

    config: DictConfig
    global_steps: int
    use_reference_policy: bool
    actor_rollout_wg: Any
    goes_on_behind = 0
    """The step of this folder that this start goes on behind; 0 of a start anew, or from a checkpoint of elsewhere."""

    def __init__(self, config: DictConfig):
        with open_dict(config):
            # verl's ranks would each read a relative path from where their node's Ray was started.
            config.trainer.default_local_dir = str(Path(config.trainer.default_local_dir).absolute())
            if config.trainer.resume_from_path:
                config.trainer.resume_from_path = str(Path(config.trainer.resume_from_path).absolute())
        super().__init__(config)  # type: ignore[call-arg]
        self._saved: list[Path] = []

    @property
    def checkpoint_root(self) -> Path:
        return Path(self.config.trainer.default_local_dir)

    @property
    def _keep(self) -> int | None:
        """How many actors stay; None: all. So verl takes what is below 1 too (checkpoint_manager.py:194)."""
        trainer = self.config.trainer
        keep = 1 if trainer.get("remove_previous_ckpt_in_save") else trainer.max_actor_ckpt_to_keep
        return keep if isinstance(keep, int) and keep > 0 else None

    def _save_checkpoint(self) -> None:
        folder = self.checkpoint_root / f"global_step_{self.global_steps}"
        (folder / folders.MARK).unlink(missing_ok=True)
        if self.use_reference_policy:
            self.actor_rollout_wg.save_reference(str(folder / folders.REFERENCE))
        trainer, keep = self.config.trainer, self._keep
        with open_dict(self.config):
            # verl deletes the one before as soon as the actor is written, and there would be none that is complete.
            trainer.max_actor_ckpt_to_keep, trainer.remove_previous_ckpt_in_save = None, False
        try:
            super()._save_checkpoint()  # type: ignore[misc]
        finally:
            trainer.max_actor_ckpt_to_keep = keep
        folders.mark_complete(
            folder, world_size=self.actor_rollout_wg.world_size, has_reference=self.use_reference_policy
        )
        self._saved = folders.keep_newest([*self._saved, folder], keep)
        folders.remove_orphans(self.checkpoint_root)

    def _load_checkpoint(self) -> None:
        trainer = self.config.trainer
        if trainer.nnodes > 1:
            self._check_that_nodes_share_the_folder()
        if trainer.resume_mode == "auto":
            folder = resume.newest(self.checkpoint_root)
            if folder is None:
                self.global_steps = 0
                self._begin()
                return
            with open_dict(self.config):
                # verl would read the step from a file that a killed run may have left empty.
                trainer.resume_mode, trainer.resume_from_path = "resume_path", str(folder)
        if trainer.resume_mode == "resume_path":
            resume.check(trainer.resume_from_path, self.actor_rollout_wg.world_size)
        super()._load_checkpoint()  # type: ignore[misc]
        if self.global_steps > 0 and self.use_reference_policy:
            self.actor_rollout_wg.load_reference(str(Path(trainer.resume_from_path) / folders.REFERENCE))
        self._begin()  # once everything is loaded
        if keep := self._keep:
            # Those that the run had kept count; what is older was left there on purpose.
            self._saved = folders.complete(self.checkpoint_root)[-keep:]

    def _begin(self) -> None:
        """What the folder holds of later steps is of a branch that ends here; of another training, all of it is."""
        trainer, root = self.config.trainer, self.checkpoint_root
        goes_on_here = self.global_steps > 0 and Path(trainer.resume_from_path).resolve().parent == root.resolve()
        self.goes_on_behind = self.global_steps if goes_on_here else 0
        if not trainer.get("val_only"):  # it trains nothing, so nothing is void
            resume.begin(root, self.goes_on_behind)

    def _check_that_nodes_share_the_folder(self) -> None:
        """Each rank writes its own part of a checkpoint, and only one that has all parts is complete.

        Raises:
            CareConfigError: before the first step, naming the ranks that do not see a file of this process there.
        """
        self.checkpoint_root.mkdir(parents=True, exist_ok=True)
        probe = self.checkpoint_root / f".seen_by_all_{uuid4().hex}"
        probe.touch()
        try:
            blind = [rank for rank, sees in enumerate(self.actor_rollout_wg.sees(str(probe))) if not sees]
        finally:
            probe.unlink()
        if blind:
            raise CareConfigError(
                f"trainer.default_local_dir={self.checkpoint_root}: {len(blind)} ranks ({blind[0]} the first) do not"
                " see it. With trainer.nnodes above 1 set it to a folder that all nodes share, under the same path."
            )
