"""A prompt whose media cannot be used is counted and named once; a run in which all fail ends."""

import asyncio
import logging
from types import SimpleNamespace

import pytest
import transfer_queue as tq

from verl_care.data import failures
from verl_care.data.decoders import MediaError
from verl_care.data.failures import FailedPrompts


@pytest.fixture(autouse=True)
def queue(monkeypatch):
    """TransferQueue's part in it: tags under keys in partitions."""
    partitions = {"train": {"other": {"status": "running"}}}

    async def async_kv_put(key, partition_id, tag):
        partitions.setdefault(partition_id, {}).setdefault(key, {}).update(tag)

    def kv_clear(keys, partition_id):
        for key in keys:
            del partitions[partition_id][key]

    monkeypatch.setattr(tq, "async_kv_put", async_kv_put)
    monkeypatch.setattr(tq, "kv_clear", kv_clear)
    monkeypatch.setattr(tq, "kv_list", lambda name: {name: dict(partitions.get(name, {}))})
    return partitions


def fail(uid, reason="clip a.mp4: No such file or directory"):
    asyncio.run(failures.report(uid, MediaError(reason)))


def test_eight_responses_are_one_prompt(queue):
    failed = FailedPrompts(64)
    for _ in range(8):
        fail("one")
    assert failed.media_failures() == 1.0
    assert queue == {"train": {"other": {"status": "running"}}, failures.PARTITION: {}}


def test_each_file_is_named_once(caplog):
    failed = FailedPrompts(64)
    with caplog.at_level(logging.WARNING):
        for step in range(3):
            failed.start(f"step {step}")
            fail(f"prompt of step {step}")
            assert failed.media_failures() == 1.0
    assert [record.message for record in caplog.records] == [
        "clip a.mp4: No such file or directory: a prompt was left out in step 0"
    ]


def test_a_step_without_failures():
    failed = FailedPrompts(64)
    fail("one")
    assert failed.media_failures() == 1.0
    failed.start("step 2")
    assert failed.media_failures() == 0.0


def test_the_limit_counts_one_step():
    failed = FailedPrompts(3)
    for step in range(5):
        failed.start(f"step {step}")
        failed.add(2)
        failed.add(1)


def test_a_run_in_which_all_fail_ends():
    failed = FailedPrompts(3)
    failed.start("step 7")
    fail("one")
    failed.add(3)
    with pytest.raises(RuntimeError) as caught:
        failed.add(1)
    message = str(caught.value)
    assert message.startswith("4 prompts failed in step 7")
    assert "clip a.mp4: No such file or directory" in message
    assert "care.max_failed_prompts" in message


def test_and_says_where_to_look_if_it_was_not_the_media():
    with pytest.raises(RuntimeError, match="in the log of the rollout workers"):
        FailedPrompts(0).add(1)


class TestAgentLoop:
    @staticmethod
    def run(monkeypatch, error):
        from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop

        from verl_care.agent_loop import CareAgentLoop

        async def run(self, sampling_params, priority=0, **kwargs):
            raise error

        monkeypatch.setattr(SingleTurnAgentLoop, "run", run)
        loop = object.__new__(CareAgentLoop)
        loop.server_manager = SimpleNamespace()
        loop.rollout_config = SimpleNamespace(full_determinism=False, router_config_path=None)
        with pytest.raises(type(error)):
            asyncio.run(loop.run({}, uid="one", raw_prompt=[]))

    def test_says_what_it_could_not_decode(self, monkeypatch, queue):
        self.run(monkeypatch, MediaError("clip a.mp4: broken"))
        assert queue[failures.PARTITION] == {"one": {"reason": "clip a.mp4: broken"}}

    def test_and_nothing_else(self, monkeypatch, queue):
        self.run(monkeypatch, ValueError("prompt too long"))
        assert failures.PARTITION not in queue

    def test_verl_logs_no_traceback_for_each_response(self, caplog):
        import verl_care.agent_loop  # noqa: F401

        logger = logging.getLogger("verl.trainer.ppo.v1.agent_loop_tq")
        kept = []
        logger.addHandler(handler := logging.Handler())
        handler.emit = kept.append
        try:
            for error in (MediaError("clip a.mp4: broken"), ValueError("prompt too long")):
                logger.error("Error in _run_prompt", exc_info=(type(error), error, None))
        finally:
            logger.removeHandler(handler)
        assert [str(record.exc_info[1]) for record in kept] == ["prompt too long"]


class TestValidation:
    @staticmethod
    def trainer(monkeypatch, validate):
        from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

        from verl_care.trainer import CareTrainer

        monkeypatch.setattr(PPOTrainerSync, "_validate", validate)
        trainer = CareTrainer.__new__(CareTrainer)
        trainer.failed_prompts, trainer.replay_buffer = FailedPrompts(64), None
        return trainer

    def test_counts_what_it_leaves_out(self, monkeypatch):
        def validate(self):
            fail("one")
            return {"val-core/x": 0.5}

        found = self.trainer(monkeypatch, validate)._validate()
        assert found.pop("val-aux/care/validation_s") >= 0
        assert found == {"val-core/x": 0.5, "val-aux/care/media_failures": 1.0}

    @pytest.mark.parametrize(("lost", "expected"), [(True, RuntimeError), (False, ValueError)])
    def test_with_nothing_left(self, monkeypatch, lost, expected):
        def validate(self):
            if lost:
                fail("one")
            raise ValueError("keys or partition were not found!")

        with pytest.raises(expected, match=r"media cannot be used|keys or partition"):
            self.trainer(monkeypatch, validate)._validate()
