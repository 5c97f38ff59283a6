"""What we rely on where verl replaces a prompt whose rollout failed (T22), a test per seam."""

import inspect
from pathlib import Path

from verl.trainer.ppo.v1 import agent_loop_tq, replay_buffer, trainer_base

from tests.contract.seams import in_order, seam, source, unpatched_source


def test_every_session_settles_before_a_prompt_has_failed():
    text = unpatched_source("trainer/ppo/v1/agent_loop_tq.py")
    order = ("_settle_session_tasks(tasks)", "if session_errors:", 'status = "failure"', 'tag={"status": status}')
    seam(in_order(text.split("async def _run_prompt")[1], *order), "reported first, failed then", "failures.report")
    seam("session_id=i, **prompt" in text and 'prompt["uid"]' in text, "a session knows its prompt", "failures.report")
    logged = "logger = logging.getLogger(__name__)" in text and "exc_info=(type(error), error" in text
    seam(logged, "a traceback for each session, on its own logger", "agent_loop._not_told_elsewhere")
    name = Path(inspect.getfile(agent_loop_tq)).stem
    seam(agent_loop_tq.logger.name == f"verl.trainer.ppo.v1.{name}", "the logger's name", "the same")


def test_a_failed_prompt_without_responses_is_replaced():
    text = source(replay_buffer.ReplayBuffer.sample)
    seam(
        "self.refill_fn(failed_count)" in text, "as many new prompts as failed", "CareTrainer._add_prompts_to_generate"
    )
    build = source(trainer_base.PPOTrainer._build_replay_buffer)
    seam("refill_fn=self._add_prompts_to_generate" in build, "refill_fn is that hook", "the same")
    seam('sampler_config.get("sync_refill_failed_groups", False)' in build, "the switch", "care_base.yaml")
    first = source(trainer_base.PPOTrainer._add_batch_to_generate)
    seam("_add_prompts_to_generate" not in first, "a step's own prompts come another way", "the same")


def test_validation_goes_on_without_a_failed_prompt():
    text = source(replay_buffer.ReplayBuffer._terminal_eviction_reasons)
    seam(
        'if partition_id == "val":\n            return set(), set(), set()' in text,
        "none is replaced",
        "CareTrainer._validate",
    )
    seam(
        "expected_acc_counts" in source(trainer_base.PPOTrainer._validate), "counted as wrong in acc", "docs/method.md"
    )


def test_other_partitions_do_not_disturb():
    """Ours has keys without `is_prompt`; the replay buffer looks at those of its own partition."""
    text = source(replay_buffer.ReplayBuffer._sync_metadata_from_transfer_queue)
    seam('if tag.get("is_prompt", False):' in text, "prompts are told by their tag", "failures.PARTITION")


def test_steps_begin_with_prepare_step():
    order = ("self.prepare_step()", "self._step_once(")
    seam(in_order(source(trainer_base.PPOTrainer.step), *order), f"{order}", "FailedPrompts.start")


def test_verl_isolates_its_logger():
    seam(
        "configure_verl_logging()" in unpatched_source("trainer/main_ppo.py"), "it does", "trainer._log_where_verl_logs"
    )
