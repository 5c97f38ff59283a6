"""What a worker is sent of a batch."""

from types import SimpleNamespace

import pytest
import transfer_queue as tq
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

from verl_care import worker_fields
from verl_care.trainer import CareTrainer
from verl_care.validation import MeasuredValidation
from verl_care.worker_fields import LeanPasses, without_unread

STORED = ["uid", "raw_prompt", "input_ids", "extra_info", "advantages", "a_column_of_tomorrow", "extra_fields"]
SENT = ["uid", "input_ids", "advantages", "a_column_of_tomorrow"]


@pytest.fixture
def asked(monkeypatch):
    """Of which keys the stored columns were asked."""
    asked = []

    def kv_retrieve_meta(keys, partition_id, create):
        asked.append((keys, partition_id, create))
        return SimpleNamespace(field_names=list(STORED))

    monkeypatch.setattr(worker_fields.tq, "get_client", lambda: SimpleNamespace(kv_retrieve_meta=kv_retrieve_meta))
    return asked


def batch_of(fields):
    return tq.KVBatchMeta(keys=["a_0_0", "a_1_0"], tags=[{}, {}], partition_id="train", fields=fields)


def test_a_batch_that_names_its_columns(asked):
    batch = batch_of(list(STORED))
    with without_unread(batch):
        assert batch.fields == SENT
    assert batch.fields == STORED
    assert asked == []


def test_a_batch_that_names_none_is_asked_for_by_one_of_its_rows(asked):
    batch = batch_of(None)
    with without_unread(batch):
        assert batch.fields == SENT
    assert batch.fields is None
    assert asked == [(["a_0_0"], "train", False)]


def test_after_a_failure_the_batch_is_as_before(asked):
    batch = batch_of(None)
    with pytest.raises(RuntimeError), without_unread(batch):
        raise RuntimeError
    assert batch.fields is None


@pytest.mark.parametrize("name", ["_compute_old_log_prob", "_compute_ref_log_prob", "_update_actor"])
def test_every_pass_of_the_trainer_sends_what_is_read(monkeypatch, name):
    def verls(self, batch, metrics):
        assert batch.fields == SENT
        return batch

    monkeypatch.setattr(PPOTrainerSync, name, verls)
    batch = batch_of(list(STORED))
    trainer = object.__new__(LeanPasses)
    assert getattr(trainer, name)(batch, {}) is batch
    assert batch.fields == STORED


def test_the_validations_pass_is_one_of_them():
    order = CareTrainer.__mro__
    assert order.index(MeasuredValidation) < order.index(LeanPasses) < order.index(PPOTrainerSync)
