"""What packing relies on in verl, transformers and torch, a test per seam."""

import pytest
import torch
from verl.trainer.ppo.v1 import trainer_base
from verl.workers.engine import fsdp  # noqa: F401 - registers
from verl.workers.engine.base import EngineRegistry
from verl.workers.engine.fsdp import transformer_impl

from tests.contract.seams import in_order, parameters, seam, source, unpatched_source
from verl_care.packing.engine import MODEL_TYPE, GroupPacking

ENGINE = transformer_impl.FSDPEngineWithLMHead


@pytest.mark.parametrize(
    ("hook", "expected"),
    [
        ("_build_module", ["self"]),
        ("prepare_model_inputs", ["self", "micro_batch"]),
        ("prepare_model_outputs", ["self", "output", "output_args", "micro_batch", "logits_processor_func"]),
        ("forward_backward_batch", ["self", "data", "loss_function", "forward_only"]),
    ],
)
def test_hooks_of_the_engine(hook, expected):
    seam(parameters(getattr(ENGINE, hook)) == expected, f"{hook}{tuple(expected)}", f"GroupPacking.{hook}")


def test_the_packed_engine_is_registered():
    engines = EngineRegistry._engines[MODEL_TYPE]["fsdp2"]
    seam("cuda" in engines and issubclass(engines["cuda"], GroupPacking), "register(model_type=...)", "care.packing")
    from verl_care import platforms

    if platforms.wants_cpu():
        ours, plain = (EngineRegistry._engines[kind]["fsdp2"]["cpu"] for kind in (MODEL_TYPE, "language_model"))
        seam(issubclass(ours, GroupPacking) and issubclass(ours, plain), "its choice by device", "care.packing")


def test_the_model_type_chooses_the_engine():
    from verl.workers import engine_workers
    from verl.workers.config import HFModelConfig

    text = source(engine_workers.ActorRolloutRefWorker.init_model)
    for role in ("ref_config", "actor_config"):
        read = f'model_type={role}.model_config.get("model_type", "language_model")'
        seam(read in text, f"{role}'s model_type is the model's", "packing.choose")
    seam("model_type" in HFModelConfig._mutable_fields, "it can be put back", "GroupPacking.__init__")
    seam('self.model_config.model_type == "language_model"' in source(ENGINE._build_module), "and must be", "it")


def test_micro_batches_are_made_by_a_name_of_the_module():
    text = source(transformer_impl.FSDPEngine.forward_backward_batch)
    call = "prepare_micro_batches(\n            data=data, dp_group=self.get_data_parallel_group(), same_micro_num_"
    seam(call in text, "forward_backward_batch calls it by that name", "compat._keep_groups_together")
    by_length = unpatched_source("workers/engine/utils.py")
    seam(
        "def prepare_micro_batches(\n    data: TensorDict,\n    dp_group=None," in by_length,
        "its arguments",
        "the same",
    )
    undo = "if use_dynamic_bsz:\n            model_output[key] = restore_dynamic_batch(model_output[key], indices)"
    seam(undo in by_length, "results are put back by the indices", "batching.prepare_micro_batches")


def test_the_branch_without_padding_is_what_we_feed():
    inputs, outputs = source(ENGINE.prepare_model_inputs), source(ENGINE.prepare_model_outputs)
    for part in ("input_ids.values().unsqueeze(0)", "position_ids.values().unsqueeze(1)", '"attention_mask": None'):
        seam(part in inputs, f"the model gets {part}", "engine.packed_rows")
    for name in ("input_ids_rmpad_rolled", "temperature_rmpad", "pad_size"):
        seam(f'output_args["{name}"]' in outputs, f"it reads {name}", "GroupPacking.prepare_model_outputs")
    seam("cu_seqlens = input_ids.offsets()" in outputs, "results take the offsets of the tokens", "as_unpadded")


def test_padding_removal_is_read_from_the_engine():
    text = source(ENGINE._build_module)
    seam(
        "use_remove_padding=self.use_remove_padding" in text, "apply_monkey_patch gets it", "GroupPacking._build_module"
    )


def test_transformers_hands_on_what_layers_are_told():
    from transformers.masking_utils import _preprocess_mask_arguments

    text = source(_preprocess_mask_arguments)
    seam("not in ALL_MASK_ATTENTION_FUNCTIONS" in text, "an unknown attention gets no mask", "packing.attention")


def test_flash_attention_of_torch():
    forward, backward = (
        {argument.name for argument in getattr(torch.ops.aten, name).default._schema.arguments}
        for name in ("_flash_attention_forward", "_flash_attention_backward")
    )
    seam({"cum_seq_q", "cum_seq_k", "max_q", "max_k", "is_causal", "scale"} <= forward, "its arguments", "attention")
    seam({"out", "logsumexp", "rng_state", "unused"} <= backward, "its arguments", "attention")
    returned = [result.name for result in torch.ops.aten._flash_attention_forward.default._schema.returns]
    seam(returned[1:4] == ["softmax_logsumexp", "rng_state", "unused"], f"its results {returned}", "attention")


def test_the_agent_loop_worker():
    from verl.trainer.ppo.v1 import agent_loop_tq

    worker = agent_loop_tq.AgentLoopWorkerTQ.__ray_metadata__.modified_class.__ray_actor_class__
    seam(worker.__name__ == "AgentLoopWorkerTQ", "Ray keeps the class itself", "PackedAgentLoopWorker")
    text = source(worker._agent_loop_postprocess)
    order = (
        'uid, session_id = kwargs["uid"]',
        "multi_modal_inputs = self._compute_multi_modal_inputs(output, input_ids)",
        "self._compute_position_ids(",
        'field["multi_modal_inputs"] = multi_modal_inputs',
    )
    seam(in_order(text, *order), "what is left of the inputs goes into the row", "PackedAgentLoopWorker")
    seam('keys.append(f"{uid}_{session_id}_{i}")' in text, "the key of a row", "records.row_keys")
    prompt = source(worker._run_prompt)
    seam("range(n)" in prompt and "_run_agent_loop(" in prompt, "one worker makes a group", "PackedAgentLoopWorker")
    manager = source(agent_loop_tq.AgentLoopManagerTQ.__init__)
    seam("self.agent_loop_workers_class = AgentLoopWorkerTQ" in manager, "the class is chosen there", "our manager")


def test_a_batch_on_ranks():
    text = source(trainer_base.PPOTrainer._balance_batch)
    seam("equally partitioned by dispatch" in text, "equal shares in the batch's order", "CareTrainer._balance_batch")
    text = source(trainer_base.PPOTrainer._compute_ref_log_prob)
    seam("batch.extra_info.update(metadata)" in text, "extra_info goes with the batch", "scoring.answers_only")


def test_fields_that_some_rows_lack_are_left_out():
    """`answer_mask` and `ref_log_prob` are there for scored rows only; the update asks for all rows."""
    from transfer_queue import controller

    text = source(controller.TransferQueueController.kv_retrieve_meta)
    seam(
        "must fetch fields that the requested samples all have" in text, "TransferQueue's rule", "scoring.answers_only"
    )
