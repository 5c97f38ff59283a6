"""GRPO-CARE on verl's synchronous trainer: overrides of its hooks, none of its loops.

What is added to a step of verl's GRPO: the reference scores the responses at temperature 1, each right
answer's likelihood decides on its bonus before advantages are computed, and the reference follows the policy.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import ray
import transfer_queue as tq
from omegaconf import DictConfig, OmegaConf, open_dict
from tqdm import tqdm
from verl.trainer.ppo.utils import Role
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer
from verl.trainer.ppo.v1.trainer_base import register_trainer
from verl.utils.debug import marked_timer
from verl.utils.seqlen_balancing import log_seqlen_unbalance

from verl_care import on_policy, packing, scoring, servers
from verl_care.ablations import choices, step
from verl_care.algorithm.consistency import consistency_bonus
from verl_care.algorithm.metrics import care_metrics
from verl_care.checkpoints import resume
from verl_care.checkpoints.saving import WholeCheckpoints
from verl_care.checks import check
from verl_care.data.failures import FailedPrompts
from verl_care.lost_format import LostFormat
from verl_care.packing import media
from verl_care.processes.time_limit import within
from verl_care.records.group_log import GroupLog
from verl_care.records.row_keys import prompt_of
from verl_care.rewards.in_process import InProcessRewards
from verl_care.rollout_caches import clip_cache_counts, clip_cache_metrics, prefix_cache_metrics
from verl_care.settings import uses_kl
from verl_care.validation import MeasuredValidation
from verl_care.worker_fields import LeanPasses
from verl_care.workers import CareWorker

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)


@register_trainer("care")
class CareTrainer(MeasuredValidation, WholeCheckpoints, LeanPasses):
    """`trainer.v1.trainer_mode=care`."""

    def __init__(self, config: DictConfig):
        self.care = check(config)
        _log_where_verl_logs()
        with open_dict(config):
            # verl 0.9.1 chooses the class by this key and then compares it with the literal "sync" in six places.
            config.trainer.v1.trainer_mode = "sync"
            servers.fit_length(config.actor_rollout_ref.rollout, Path(str(config.actor_rollout_ref.model.path)))
            if self.care.packing:
                packing.choose(config)
        super().__init__(config)
        # verl asks for a reference only where there is a KL term.
        self.use_reference_policy = self.care.needs_reference(config)
        self.failed_prompts = FailedPrompts(self.care.max_failed_prompts)
        self.lost_format = LostFormat()
        self.on_policy = self._settle_old_log_probs()

    # ------------------------------------------------------------------ set-up

    def _settle_old_log_probs(self) -> bool:
        """True if the pass for old log-probabilities can be left out; the log says so, or what needs it."""
        reasons = list(on_policy.needs_old_log_probs(self.config))
        if reasons:
            logger.warning("old log-probabilities are computed before each update: %s", ", ".join(reasons))
            return False
        logger.warning("strictly on-policy: no pass for old log-probabilities, the update's own are used")
        with open_dict(self.config):
            # All its corrections are off; verl would still compute their metrics from old log-probabilities.
            self.config.algorithm.rollout_correction = None
            servers.log_whole_distribution(self.config.actor_rollout_ref.rollout)
        return True

    def _build_replay_buffer(self) -> ReplayBuffer:
        buffer = super()._build_replay_buffer()
        buffer.poll_interval = self.care.replay_poll_interval_s
        return buffer

    def _init_resource_pool_mgr(self) -> None:
        super()._init_resource_pool_mgr()
        stock_role = Role.ActorRolloutRef if Role.ActorRolloutRef in self.role_worker_mapping else Role.ActorRollout
        role = Role.ActorRolloutRef if self.use_reference_policy else stock_role
        del self.role_worker_mapping[stock_role]
        self.role_worker_mapping[role] = ray.remote(CareWorker)
        self.mapping[role] = self.mapping.pop(stock_role)

    def get_reward_handles(self) -> list[Any]:
        return super().get_reward_handles() or [InProcessRewards(self.config)]

    def record_root(self) -> Path:
        """Where metrics, groups, dumps and configuration go. A start that trains nothing leaves those of others be."""
        return resume.beside(self.checkpoint_root) if self.config.trainer.get("val_only") else self.checkpoint_root

    def fit(self, agent_loop_manager: Any) -> None:
        # verl's file and tensorboard loggers take their places from the environment; ours is the run's folder.
        root = self.record_root()
        root.mkdir(parents=True, exist_ok=True)
        with open_dict(self.config):
            resume.move_dumps(self.config.trainer, self.checkpoint_root, root)
        os.environ.setdefault("VERL_FILE_LOGGER_PATH", str(root / resume.METRICS))
        os.environ.setdefault("TENSORBOARD_DIR", str(root / "tensorboard"))
        OmegaConf.save(self.config, root / resume.CONFIG, resolve=True)
        self.groups = GroupLog(root, self.tokenizer, self.care, self.config.actor_rollout_ref.rollout)
        self.groups.start(self.goes_on_behind, str(self.config.trainer.experiment_name))
        super().fit(agent_loop_manager)

    # ------------------------------------------------------------------ a step

    def prepare_step(self) -> dict:
        self.failed_prompts.start(f"step {self.global_steps}")
        self._clips_before = self._clip_counts()  # those of a validation
        return super().prepare_step()

    def _add_prompts_to_generate(self, num_prompts: int) -> int:
        # verl's replay buffer asks for as many new prompts as it has found failed
        self.failed_prompts.add(num_prompts)
        return super()._add_prompts_to_generate(num_prompts)

    def _validate(self) -> dict[str, float]:
        self.failed_prompts.start("validation")
        try:
            metrics = super()._validate()
        except ValueError as error:  # verl asks TransferQueue for the answers of no question
            if failures := self.failed_prompts.media_failures():
                raise RuntimeError(
                    f"validation stopped, with {failures:.0f} questions whose media cannot be used (named above): most"
                    " likely none was left in a batch. Set data.val_files to data whose clips are there"
                ) from error
            raise
        return metrics | {"val-aux/care/media_failures": self.failed_prompts.media_failures()}

    def _compute_old_log_prob(self, batch: tq.KVBatchMeta, metrics: dict) -> tq.KVBatchMeta:
        return batch if self.on_policy else super()._compute_old_log_prob(batch, metrics)

    def _balance_batch(self, batch: tq.KVBatchMeta, metrics: dict, *args: Any, **kwargs: Any) -> tq.KVBatchMeta:
        batch = super()._balance_batch(batch, metrics, *args, **kwargs)
        if not self.care.packing:
            return batch
        place = {key: row for row, key in enumerate(batch.keys)}
        shares = scoring.shares_of(batch, self.actor_rollout_wg.world_size)
        partitions = [[place[key] for key in share] for share in shares]
        metrics.update(log_seqlen_unbalance([tag["seq_len"] for tag in batch.tags], partitions, "global_seqlen"))
        batch.reorder([row for share in partitions for row in share])
        return batch

    def _compute_ref_log_prob(self, batch: tq.KVBatchMeta, metrics: dict) -> tq.KVBatchMeta:
        rollout = self.config.actor_rollout_ref.rollout
        sampling_temperature = rollout.temperature
        if self.care.bonus != "none":
            # verl scores at the temperature of the rollout; a likelihood is one at temperature 1.
            rollout.temperature = self.care.scoring_temperature
        refgen = self.care.bonus == "refgen"
        batch.extra_info[choices.WANTED] = self.care.refgen_answer if refgen else None  # type: ignore[index]
        try:
            if self.care.packing and not refgen and not uses_kl(self.config):
                self._score_answers(batch, metrics)
                return batch
            self._scored = set(batch.keys)
            return super()._compute_ref_log_prob(batch, metrics)
        finally:
            rollout.temperature = sampling_temperature

    def _score_answers(self, batch: tq.KVBatchMeta, metrics: dict) -> None:
        """Reference log-probabilities where the bonus needs them; no pass where it needs none."""
        graded = scoring.Graded.of(batch)
        keys = graded.keys_to_score(self.care.bonus, self.care.accuracy_threshold)  # type: ignore[arg-type]
        metrics["care/scored_fraction"] = len(keys) / len(graded.keys)
        self._scored = set(keys)
        if keys:
            part = scoring.answers_only(batch, graded, keys, self.actor_rollout_wg.world_size)
            super()._compute_ref_log_prob(part, metrics)

    def _clip_counts(self) -> list[tuple[int, int]]:
        handles = [replica.server_handle for replica in self.llm_server_manager.get_replicas()]
        return ray.get([handle.__ray_call__.remote(clip_cache_counts) for handle in handles])

    def on_sample_end(self) -> None:
        # before verl puts the servers to sleep, which empties their caches and the counts of them
        self._clips_after = self._clip_counts()
        super().on_sample_end()

    def _compute_advantage(self, batch: tq.KVBatchMeta, metrics: dict) -> tq.KVBatchMeta:
        metrics.update(clip_cache_metrics(self._clips_before, self._clips_after))
        with marked_timer("care_bonus", self.timing_raw):
            judged = self._add_bonus(batch, metrics)
        batch = super()._compute_advantage(batch, metrics)
        if self.groups.wants(self.global_steps):
            with marked_timer("care_groups", self.timing_raw):
                self.groups.write(self.global_steps, judged, str(batch.partition_id))
        return batch

    def _add_bonus(self, batch: tq.KVBatchMeta, metrics: dict) -> scoring.Judged:
        """Add each response's consistency bonus to its `rm_scores`, and log the step's `care/` metrics."""
        graded = scoring.Graded.of(batch)
        partition_id = str(batch.partition_id)
        scored = self._scored if self.use_reference_policy else ()
        likelihood_N = graded.likelihood_N(scored, partition_id, self.care.likelihood_mean)  # type: ignore[arg-type]

        result = consistency_bonus(
            graded.accuracy_N,
            likelihood_N,
            graded.uid_N,
            answered_N=None if self.use_reference_policy else graded.answered_N,
            bonus="none" if self.care.bonus == "refgen" else self.care.bonus,  # type: ignore[arg-type]
            bonus_coefficient=self.care.bonus_coefficient,
            confidence_upper_bound=self.care.confidence_upper_bound,
            consistency_margin=self.care.consistency_margin,
            accuracy_threshold=self.care.accuracy_threshold,
        )
        metrics["care/media_failures"] = self.failed_prompts.media_failures()
        prompt_length_N = [tag["prompt_len"] for tag in batch.tags if not tag.get("is_padding", False)]
        metrics.update(prefix_cache_metrics(graded.cached_tokens_N, prompt_length_N))
        if self.care.bonus == "refgen":
            reference_N = step.reference_accuracy_N(partition_id, graded.keys, graded.spans, self.tokenizer)
            metrics["care/refgen_accuracy"] = float(reference_N.mean())
            result = result._replace(bonus_N=self.care.bonus_coefficient * reference_N)
        metrics.update(
            care_metrics(
                graded.accuracy_N, graded.format_N, likelihood_N, graded.answered_N, graded.uid_N, result,
                self.care.accuracy_threshold,
            )
        )  # fmt: skip
        scoring.add_to_rewards(result.bonus_N, graded.keys, partition_id)
        if self.care.weighs_kl:
            own = set(graded.keys)
            padding = [key for key in batch.keys if key not in own]
            selected = result.selected_N.tolist()
            step.put_kl_weights(partition_id, graded.keys, graded.spans, selected, padding, self.care)
        return scoring.Judged(graded, likelihood_N, scored, result)

    def _update_actor(self, batch: tq.KVBatchMeta, metrics: dict) -> tq.KVBatchMeta:
        # The reference moves here and not in `on_step_end`, which comes after the step's checkpoint.
        batch = super()._update_actor(batch, metrics)
        on_policy.restore_metrics(metrics)
        if self.use_reference_policy and self.care.reference == "ema":
            with marked_timer("care_ema", self.timing_raw):
                metrics.update(self._update_reference())
        return batch

    def _update_reference(self) -> dict[str, float]:
        """EMA updates due by now; every `ref_ema_update_every` optimizer steps."""
        per_step = on_policy.updates_per_batch(self.config)
        before = (self.global_steps - 1) * per_step // self.care.ref_ema_update_every
        after = self.global_steps * per_step // self.care.ref_ema_update_every
        metrics = {"care/reference_updates": float(after)}
        if after > before:
            # Several due at once see the same policy, so they are one update with the product of their decays.
            distances = self.actor_rollout_wg.update_reference(self.care.ref_ema_decay ** (after - before))
            metrics["care/reference_distance"] = distances[0]
        return metrics

    def _compute_metrics(self, batch: tq.KVBatchMeta, metrics: dict, *args: Any, **kwargs: Any) -> None:
        super()._compute_metrics(batch, metrics, *args, **kwargs)
        metrics["care/groups_lost"] = float(self.groups.lost)
        self.lost_format.add(self.global_steps, metrics["care/format"])
        if self.care.packing:
            metrics["care/pixels_gb"] = media.clear(map(prompt_of, batch.keys)) / 1e9
        shown = {"reward": "critic/score/mean", "accuracy": "care/accuracy", "bonus": "care/bonus_rate"}
        for bar in list(getattr(tqdm, "_instances", ())):
            if (bar.desc or "").startswith("Training Progress"):  # verl's, a local of its `fit`
                values = {name: f"{metrics[key]:.2f}" for name, key in shown.items() if key in metrics}
                bar.set_postfix(values, refresh=False)

    # ------------------------------------------------------------------ weight sync

    def on_init_end(self) -> None:
        within(self.care.weight_sync_timeout_s, "the first weight sync", super().on_init_end)

    def on_step_end(self) -> None:
        within(self.care.weight_sync_timeout_s, f"the weight sync of step {self.global_steps}", super().on_step_end)


def _log_where_verl_logs() -> None:
    """verl keeps its loggers from what other libraries do to the root logger (main_ppo.py:135); ours go with them."""
    ours, theirs = logging.getLogger("verl_care"), logging.getLogger("verl")
    if theirs.handlers:
        ours.handlers, ours.propagate = theirs.handlers, False


import verl_care.evaluation.generate.trainer  # noqa: E402, F401 - registered with this, see plugin.py
