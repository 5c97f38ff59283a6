"""What we rely on in verl's validation, where consistency is measured; a test per seam."""

import inspect

from verl.trainer.ppo import metric_utils, padding_utils
from verl.trainer.ppo.v1 import replay_buffer, trainer_base
from verl.workers.rollout import llm_server
from verl.workers.rollout.vllm_rollout import vllm_async_server

from tests.contract.seams import in_order, parameters, seam, source

OURS = "verl_care.validation"


def test_a_batch_is_whole_between_the_buffer_and_its_removal():
    """`Watched.sample` is the only call between a validation batch's last answer and what verl makes of it."""
    text = source(trainer_base.PPOTrainer._validate)
    order = (
        "generate_sequences(batch)",
        "self.replay_buffer.sample(",
        '"extra_fields"]',
        "tq.kv_clear(",
        "_dump_generations(",
        "self._val_metrics_update(",
    )
    seam(in_order(text, *order), f"the order {order}", OURS)
    seam(text.count("self.replay_buffer.") == 1, "the buffer is asked once a batch, and for nothing else", OURS)
    returned = inspect.signature(replay_buffer.ReplayBuffer.sample).return_annotation
    seam("tuple[" in str(returned), f"sample returns the batch and metrics (now {returned})", "Watched.sample")


def test_what_is_added_to_reward_extra_info_is_dumped_and_reaches_the_metrics():
    text = source(trainer_base.PPOTrainer._validate)
    seam("extra_fields_list.tolist()" in text, "extra_fields are a stack of objects", "Answers.put")
    seam("for key, value in reward_extra_info.items():" in text, "every key of it is taken", "Answers.put")
    seam("for k, v in reward_extra_infos_dict.items()" in text, "the dump has a copy", "_val_metrics_update")


def test_why_the_means_are_ours():
    """With one of two values unknown verl's mean is a `mean@1` beside the other questions' `mean@2`."""
    found = metric_utils.process_validation_metrics(["L1"] * 4, ["a", "a", "b", "b"], {"x": [1.0, None, 0.0, 0.0]})
    seam(set(found["L1"]["x"]) >= {"mean@1", "mean@2"}, "unknown values change the name of a mean", OURS)


def test_asking_the_policy_without_media():
    generate = llm_server.LLMServerClient.generate
    seam({"request_id", "prompt_ids", "sampling_params"} <= set(parameters(generate)), "generate's arguments", OURS)
    seam(inspect.iscoroutinefunction(inspect.unwrap(generate)), "it is awaited", "asyncio.gather")
    text = source(vllm_async_server.vLLMHttpServer.generate)
    seam('sampling_params.pop("max_tokens")' in text, "max_tokens is obeyed", "agreement's few tokens")
    seam("multi_modal_data = {}" in text, "a prompt needs no media", "agreement")
    seam("get_client" in source(trainer_base.PPOTrainer.get_llm_client), "the trainer has a client", "agreement")


def test_the_reference_pass_can_run_in_validation():
    """verl itself puts the servers to sleep there, for a reward model on the same devices, and wakes them by a sync."""
    text = source(trainer_base.PPOTrainer._validate)
    order = ("sleep_replicas()", "_compute_reward_colocate(", "update_weights()")
    seam(in_order(text, *order), f"the order {order}", "MeasuredValidation._score")
    reference = source(trainer_base.PPOTrainer._compute_ref_log_prob)
    seam("batch.partition_id" in reference, "the pass works in the batch's own partition", "MeasuredValidation._score")
    expected = ["batch", "batch_multiple", "eos_token_id"]
    found = parameters(padding_utils.upsample_batch_to_divisible_size)
    seam(found == expected, f"its arguments {expected} (now {found})", "MeasuredValidation._score")
