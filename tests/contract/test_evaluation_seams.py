"""What the evaluation relies on in verl's validation, its workers and its servers, a test per seam."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from verl.experimental.agent_loop.agent_loop import (
    AgentLoopMetrics,
    AgentLoopOutput,
    AgentLoopWorker,
    _agent_loop_registry,
)
from verl.trainer.ppo.metric_utils import process_validation_metrics
from verl.trainer.ppo.v1 import agent_loop_tq, get_trainer_cls, trainer_base, trainer_sync
from verl.utils import hf_processor
from verl.utils import tensordict_utils as tu
from verl.utils.dataset import rl_dataset
from verl.workers.engine_workers import ActorRolloutRefWorker

from recipes.quickstart.stages import CHECKPOINT
from tests.contract.seams import in_order, parameters, seam, source, unpatched_source
from tests.contract.test_seams_trainer import HOOKS
from verl_care.evaluation.generate.agent_loop import EvaluationAgentLoop
from verl_care.evaluation.generate.trainer import EvaluationTrainer, ServingWorker

WORKER = agent_loop_tq.AgentLoopWorkerTQ.__ray_metadata__.modified_class


def test_what_we_register_is_found():
    seam(get_trainer_cls("care_evaluate") is EvaluationTrainer, "register_trainer", "trainer_mode=care_evaluate")
    target = f"{EvaluationAgentLoop.__module__}.{EvaluationAgentLoop.__name__}"
    seam(_agent_loop_registry["care_evaluate"] == {"_target_": target}, "register", "default_agent_loop=care_evaluate")


# ---------------------------------------------------------------- fewer samples of a question


def test_a_row_says_how_many_samples_it_is_to_have():
    text = source(trainer_base.PPOTrainer._validate)
    seam('"__rollout_n__"' in text, "_validate counts by __rollout_n__", "EvaluationDataset.__getitem__")
    run = source(WORKER._run_prompt)
    seam('prompt.pop("__rollout_n__"' in run, "_run_prompt asks as often", "the same")
    seam("session_id=i" in run, "sessions are numbered from 0", "which sample a session stands for")


def test_the_number_and_the_samples_survive_collating():
    rows = [
        {"x": torch.tensor([0]), "__rollout_n__": n, "extra_info": {"missing_samples": s}}
        for n, s in ((2, [1, 4]), (1, [0]))
    ]
    batch = tu.get_tensordict({**rl_dataset.collate_fn(rows), "uid": np.array(["a", "b"], dtype=object)})
    seam([int(n.data if hasattr(n, "data") else n) for n in batch["__rollout_n__"]] == [2, 1], "collating", "resuming")
    seam(batch["extra_info"][0]["missing_samples"] == [1, 4], "collating", "resuming")


def test_questions_with_different_numbers_of_samples_are_summed_up():
    sources, uids = ["d"] * 3, ["a", "a", "b"]
    made = process_validation_metrics(
        sources, uids, {"acc": [1.0, 0.0, 1.0]}, expected_acc_counts={("d", "a"): 2, ("d", "b"): 1}
    )
    seam(made["d"]["acc"]["mean@2"] == 0.5, "a mean for each number of samples", "verl's figures after a resumption")
    seam(made["d"]["acc"]["mean@1"] == 1.0, "a mean for each number of samples", "the same")


def test_the_filter_of_rows_comes_last_and_keeps_what_it_is_given():
    read = source(rl_dataset.RLHFDataset._read_files_and_tokenize)
    order = ("concatenate_datasets(", "self.max_samples", "self.maybe_filter_out_long_prompts(self.dataframe)")
    seam(in_order(read, *order), f"the order {order}", "EvaluationDataset.maybe_filter_out_long_prompts")
    seam(
        parameters(rl_dataset.RLHFDataset.maybe_filter_out_long_prompts) == ["self", "dataframe"],
        "its signature",
        "the same",
    )
    seam("np.arange(self.max_samples)" in read, "unshuffled, data.val_max_samples takes the first", "read_questions")


# ---------------------------------------------------------------- where a response is seen


def test_a_response_passes_through_run_with_its_row_and_session():
    text = source(AgentLoopWorker._run_agent_loop)
    order = ("agent_loop.run(sampling_params, **kwargs)", "self._agent_loop_postprocess(")
    seam(in_order(text, *order), "run, then the reward", "a row that is written before it is graded")


def test_sampling_parameters_reach_vllm_as_they_are():
    text = unpatched_source("workers/rollout/vllm_rollout/vllm_async_server.py")
    seam("SamplingParams(max_tokens=max_tokens, **sampling_params)" in text, "a seed of its own", "seed_of")
    limit = "self.config.response_length, self.config.prompt_length + self.config.response_length - len(prompt_ids)"
    seam(limit in text, "the limit of a response", "finish=length")
    room = "max_possible_tokens = self.config.max_model_len - len(prompt_ids)"
    seam(room in text, "the room that the model has", "finish=length")


def test_vllm_takes_a_seed_of_63_bits():
    sampling = pytest.importorskip("vllm.sampling_params", reason="vLLM is not installed here")
    assert sampling.SamplingParams(seed=2**63 - 1, temperature=0.1).seed == 2**63 - 1


def test_vllm_says_when_its_engine_is_gone():
    exceptions = pytest.importorskip("vllm.v1.engine.exceptions", reason="vLLM is not installed here")
    assert exceptions.EngineDeadError.__name__ == "EngineDeadError"  # is_of_the_server knows it by its name


def test_an_empty_answer_is_one_that_verl_takes():
    """A failure is graded, stored and counted as wrong; a response without tokens would not be."""
    loop = object.__new__(EvaluationAgentLoop)
    loop.tokenizer = type("Tokenizer", (), {"eos_token_id": 5})()
    output = loop._nothing()
    seam(isinstance(output, AgentLoopOutput), "AgentLoopOutput", "EvaluationAgentLoop._nothing")
    seam(output.as_dict()["responses"].tolist() == [5], "as_dict", "the same")
    score = source(AgentLoopWorker._compute_score)
    seam('"response_len": np.array([len(o.response_ids)' in score, "the reward sees its length", "the same")


def test_an_answer_leaves_its_pixels_behind():
    """As verl's worker makes a row of it: no pixels, and the positions of a text."""
    worker = object.__new__(AgentLoopWorker)
    worker.processor = processor = hf_processor(str(CHECKPOINT))
    assert processor is not None
    worker.tokenizer, worker.mm_processor_kwargs = processor.tokenizer, {}
    frames = torch.zeros(4, 3, 56, 56, dtype=torch.uint8)
    text, ids = "<|vision_start|><|video_pad|><|vision_end|>What next?", [9, 9, 9]
    made = AgentLoopOutput(
        prompt_ids=list(processor(text=[text], videos=[frames], do_sample_frames=False)["input_ids"][0]),
        response_ids=ids,
        response_mask=[1, 1, 1],
        multi_modal_data={"videos": [(frames, {"fps": 2.0, "frames_indices": [0, 1, 2, 3], "total_num_frames": 4})]},
        metrics=AgentLoopMetrics(),
    )
    loop = object.__new__(EvaluationAgentLoop)
    loop.processor = processor
    told = loop._without_media(made)
    assert len(made.prompt_ids) - len(told.prompt_ids) == 8  # 2 temporal patches of 56 / 28 * 56 / 28
    row = torch.tensor([*told.prompt_ids, *ids])
    media = worker._compute_multi_modal_inputs(told, row)
    assert not [name for name in media if "pixel" in name or "grid" in name]
    positions = worker._compute_position_ids(row[None], torch.ones_like(row)[None], media)
    assert positions[0, 1].tolist() == list(range(len(row)))


# ---------------------------------------------------------------- servers without a training engine


def test_a_worker_builds_what_its_role_says():
    init = source(ActorRolloutRefWorker.__init__)
    seam('"rollout"' in init.split("assert self.role in")[1].split("\n")[0], "a role `rollout`", "ServingWorker")
    build = source(ActorRolloutRefWorker.init_model)
    for role in ("actor", "ref", "rollout"):
        seam(f'if "{role}" in self.role' in build, f"`{role}` in the role builds it", "ServingWorker")
    seam(issubclass(ServingWorker, ActorRolloutRefWorker), "ActorRolloutRefWorker", "ServingWorker")


def test_the_server_can_load_the_model_itself():
    text = unpatched_source("workers/rollout/vllm_rollout/vllm_async_server.py")
    seam('"load_format": self.config.load_format' in text, "rollout.load_format reaches vLLM", "care_evaluate.yaml")
    sleep = text.split("async def sleep(self)")[1][:200]
    seam("not self.config.free_cache_engine" in sleep, "a server that keeps its cache does not sleep", "the same")


def test_every_hook_that_the_trainer_overrides_is_one_of_care_trainers():
    """Whose signatures test_seams_trainer.py looks at."""
    ours = {name for name, value in vars(EvaluationTrainer).items() if callable(value) and not name.startswith("__")}
    assert ours - {"_settle_old_log_probs", "record_root"} <= set(HOOKS)  # those are our own


def test_the_first_weight_sync_is_all_that_on_init_end_does():
    text = source(trainer_sync.PPOTrainerSync.on_init_end)
    seam(text.count("self.") == 2, "on_init_end syncs weights and nothing else", "EvaluationTrainer.on_init_end")


def test_validation_alone():
    fit = source(trainer_base.PPOTrainer.fit)
    order = ('"val_before_train"', "self._validate()", "Initial validation metrics", '"val_only"', "return")
    seam(in_order(fit, *order), f"the order {order}", "trainer.val_only=true")
    init = source(trainer_base.PPOTrainer._init_dataloader)
    seam("self.config.data.val_batch_size or len(self.val_dataset)" in init, "data.val_batch_size", "bounded memory")
    worker = source(WORKER.generate_sequences)
    seam("do_sample" not in worker, "val_kwargs.do_sample is not looked at", "checks.problems")
    for name in ("top_p", "top_k", "temperature"):
        seam(f"config.val_kwargs.{name}" in worker, f"val_kwargs.{name} is used", "the released sampling")
