"""What a pass of a worker is sent of a batch: the columns it reads, and not the rows that data and rollouts came from.

verl sends a worker every column of TransferQueue. One of objects (messages, the reward's inputs) is then copied object
by object for each pass, mini-batch and micro-batch; `python -m benchmarks.worker_fields` says what that costs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import transfer_queue as tq
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

UNREAD = frozenset({
    # of the row, as the data set and verl's rollout name them
    "prompt", "raw_prompt", "data_source", "ability", "reward_model", "extra_info", "index", "agent_name",
    "tools_kwargs", "interaction_kwargs", "dummy_tensor", "session_id", "global_steps",
    # of the response
    "extra_fields", "metrics", "num_turns", "mm_processor_kwargs", "mm_processor_output",
})  # fmt: skip
"""What no loss, engine or worker of verl 0.9.1 reads. A column that is not named here is sent."""


class LeanPasses(PPOTrainerSync):
    """verl's trainer, whose passes send their workers what they read."""

    def _compute_old_log_prob(self, batch: tq.KVBatchMeta, metrics: dict[str, Any]) -> tq.KVBatchMeta:
        with without_unread(batch):
            return super()._compute_old_log_prob(batch, metrics)

    def _compute_ref_log_prob(self, batch: tq.KVBatchMeta, metrics: dict[str, Any]) -> tq.KVBatchMeta:
        with without_unread(batch):
            return super()._compute_ref_log_prob(batch, metrics)

    def _update_actor(self, batch: tq.KVBatchMeta, metrics: dict[str, Any]) -> tq.KVBatchMeta:
        with without_unread(batch):
            return super()._update_actor(batch, metrics)


@contextmanager
def without_unread(batch: tq.KVBatchMeta) -> Iterator[None]:
    """Within it, whoever is handed the batch fetches the columns that a pass reads."""
    before = batch.fields
    fields = before
    if fields is None:  # the batch has not been written to since it was sampled
        meta = tq.get_client().kv_retrieve_meta(keys=batch.keys[:1], partition_id=str(batch.partition_id), create=False)
        fields = meta.field_names
    batch.fields = [name for name in fields if name not in UNREAD]
    try:
        yield
    finally:
        batch.fields = before
