"""What our agent loop relies on in verl's, and the two faults of others that it and `verl_care.positions` answer."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import types

import numpy as np
import pytest
import torch
import transformers
import verl

from recipes.quickstart.model import build_processor

VERSIONS = f"verl {verl.__version__}, transformers {transformers.__version__}"


@pytest.fixture(scope="module")
def run_source():
    from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop

    return inspect.getsource(SingleTurnAgentLoop.run)


def test_a_response_decodes_first_and_asks_for_kwargs_then(run_source):
    decoded = run_source.find("self.process_multi_modal_info(")
    asked = run_source.find("self._get_mm_processor_kwargs(")
    assert -1 < decoded < asked, f"{VERSIONS}: CareAgentLoop keeps the metadata of the first for the second"


def test_the_kwargs_reach_the_server_and_the_training_side(run_source):
    handed_on = run_source.count("mm_processor_kwargs=mm_processor_kwargs")
    assert handed_on == 2, f"{VERSIONS}: vLLM and the actor must get one frame rate"


@pytest.mark.parametrize("ours", [True, False])
def test_a_row_holds_no_pixels_for_sglang(monkeypatch, ours):
    """What verl's loop itself puts there: the pixels, once in each response."""
    from verl.experimental.agent_loop import agent_loop, single_turn_agent_loop
    from verl.workers.rollout.replica import TokenOutput

    from verl_care.agent_loop import CareAgentLoop

    kind = CareAgentLoop if ours else single_turn_agent_loop.SingleTurnAgentLoop
    features = {"pixel_values_videos": torch.ones(16, 4), "video_grid_thw": torch.tensor([[1, 4, 4]])}

    async def media(self, messages):
        return {"videos": [("frames", {"fps": 2.0, "frames_indices": [0], "video_backend": "pyav"})]}

    async def tokens(self, *args, mm_inputs_out, **kwargs):
        mm_inputs_out.update(features)
        return [1, 2]

    async def generate(**request):
        return TokenOutput(token_ids=[3])

    async def merge(self, prompt_ids, token_ids, *args, **kwargs):
        return types.SimpleNamespace(token_ids=[*prompt_ids, *token_ids]), [1], None

    stand_ins = {
        "process_multi_modal_info": media,
        "ct_build_initial_tokens": tokens,
        "ct_merge_assistant_token": merge,
        "_assert_mm_supported": lambda self, found: None,
        "_get_mm_processor_kwargs": lambda self, audio=None: {},
    }
    for name, stand_in in stand_ins.items():
        monkeypatch.setattr(agent_loop.AgentLoopBase, name, stand_in)
    loop = object.__new__(kind)
    loop.server_manager, loop.response_length = types.SimpleNamespace(generate=generate), 8
    loop.rollout_config = types.SimpleNamespace(full_determinism=True)
    row = asyncio.run(loop.run({}, raw_prompt=["a question"], uid="u")).as_dict()
    del row["multi_modal_data"]  # verl does, before it stores the row
    assert ("pixel_values_videos" in str(row)) is not ours, f"{VERSIONS}: CareAgentLoop.build_sglang_video_payload"


def test_the_payload_is_for_sglang_alone():
    from verl.workers.rollout.llm_server import LLMServerClient

    text = inspect.getsource(LLMServerClient.generate)
    taken = 'rollout.name == "sglang":\n                video_data = mm_processor_output'
    assert text.count(taken) == 1, VERSIONS
    assert text.count("mm_processor_output") == 3, f"{VERSIONS}: popped, and used there alone"


def test_one_object_runs_one_response():
    from verl.experimental.agent_loop.agent_loop import AgentLoopWorker

    source = inspect.getsource(AgentLoopWorker._run_agent_loop)
    assert "hydra.utils.instantiate(" in source, f"{VERSIONS}: CareAgentLoop keeps a response's metadata in itself"


def test_the_loop_is_registered():
    importlib.import_module("verl.experimental.agent_loop")  # verl_care.plugin waits for it
    from verl.experimental.agent_loop.agent_loop import _agent_loop_registry

    assert _agent_loop_registry["care"] == {"_target_": "verl_care.agent_loop.CareAgentLoop"}, VERSIONS


def test_vllm_still_drops_the_metadata_of_a_qwen2_5_clip():
    parse = pytest.importorskip("vllm.multimodal.parse", reason="vLLM is not installed here")
    clip = (np.zeros((8, 56, 56, 3), np.uint8), {"fps": 2.0})
    items = parse.MultiModalDataParser()._parse_video_data([clip])
    assert not isinstance(items.get(0), tuple), "vLLM hands it on: CareAgentLoop may have become unnecessary"


@pytest.mark.parametrize(
    ("metadata", "seconds"),
    [
        ({}, 2 / 24),  # nothing handed on: transformers assumes 24 frames a second
        # 8 of 16 frames of 8 fps: 2 seconds hold 8 frames, a patch of two lasts 0.5 s
        ({"fps": 8.0, "total_num_frames": 16, "frames_indices": [0, 2, 4, 6, 9, 11, 13, 15]}, 0.5),
    ],
)
def test_what_the_processor_makes_of_metadata(metadata, seconds):
    kwargs = {"video_metadata": [metadata]} if metadata else {}
    made = build_processor()(
        text=["<|vision_start|><|video_pad|><|vision_end|>"],
        videos=[torch.zeros(8, 3, 56, 56, dtype=torch.uint8)],
        do_sample_frames=False,
        return_tensors="pt",
        **kwargs,
    )
    assert float(made["second_per_grid_ts"][0]) == pytest.approx(seconds), VERSIONS


def test_every_run_of_the_processor_gets_the_worker_s_own(run_source):
    """`remember_features` is done to the one processor that all three of verl's calls use."""
    from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopWorker

    run = inspect.getsource(AgentLoopWorker._run_agent_loop)
    assert "processor=self.processor," in run, f"{VERSIONS}: the loop gets the worker's processor"
    for part in ("self.processor = processor", "processor=self.processor,"):
        assert part in inspect.getsource(AgentLoopBase.__init__), f"{VERSIONS}: and builds prompts with it"
    features = inspect.getsource(AgentLoopWorker._compute_multi_modal_inputs)
    assert "build_multimodal_processor_inputs(\n            self.processor," in features, VERSIONS
    call = inspect.getsource(type(build_processor()).__call__)
    for part in ("self.image_processor(images=images,", "self.video_processor(videos=videos,"):
        assert part in call, f"{VERSIONS}: verl_care.data.features.Once knows its input by these names"


def test_hydra_hands_the_loop_the_processor_and_no_copy():
    import hydra

    processor = build_processor()
    made = hydra.utils.instantiate(config={"_target_": "types.SimpleNamespace"}, processor=processor)
    assert made.processor is processor


def test_the_server_says_what_its_caches_did():
    """`care/prefix_cache_hit_rate` and `care/clip_cache_hit_rate`."""
    pytest.importorskip("vllm", reason="vLLM is not installed here")
    import ray.actor
    from verl.workers.rollout.replica import RolloutReplica
    from verl.workers.rollout.vllm_rollout.vllm_async_server import vLLMHttpServer
    from vllm.multimodal.cache import BaseMultiModalProcessorCache
    from vllm.renderers.base import BaseRenderer
    from vllm.utils.cache import CacheInfo

    answer = inspect.getsource(vLLMHttpServer.generate)
    assert 'extra_fields["num_cached_tokens"]' in answer, f"{VERSIONS}: cached tokens come with each response"
    assert "self.engine = engine_client" in inspect.getsource(vLLMHttpServer.run_server), VERSIONS
    assert isinstance(BaseRenderer.mm_processor_cache, property), "vLLM: clip_cache_counts"
    assert "delta" in inspect.signature(BaseMultiModalProcessorCache.make_stats).parameters, "vLLM: clip_cache_counts"
    assert (CacheInfo(hits=1, total=2).hits, CacheInfo(hits=1, total=2).total) == (1, 2)
    assert isinstance(RolloutReplica.server_handle, property), VERSIONS
    assert "def __ray_call__(" in inspect.getsource(ray.actor), f"ray {ray.__version__}: clip_cache_counts"


def test_what_a_server_is_told_of_length_and_log_probabilities():
    """`verl_care.servers` says both; and a server that sleeps has forgotten how often clips were found."""
    pytest.importorskip("vllm", reason="vLLM is not installed here")
    from verl.trainer.ppo.v1.trainer_base import PPOTrainer
    from verl.workers.rollout.vllm_rollout.vllm_async_server import vLLMHttpServer
    from vllm.utils.cache import LRUCache

    text = inspect.getsource(vLLMHttpServer)
    assert "self.config.max_model_len = max_position_embeddings" in text, f"{VERSIONS}: servers.fit_length"
    assert '"max_model_len": self.config.max_model_len' in text, f"{VERSIONS}: servers.fit_length"
    assert '"logprobs_mode": self.config.logprobs_mode' in text, f"{VERSIONS}: servers.log_whole_distribution"
    step = inspect.getsource(PPOTrainer)
    assert step.index("self.on_sample_end()") < step.index("self._compute_advantage("), VERSIONS
    cache = LRUCache(capacity=1)
    cache["a"] = 1
    assert cache.get("a") == 1
    assert cache.stat().hits == 1
    cache.clear()
    assert cache.stat().total == 0


def test_the_server_forbids_the_placeholders():
    """A sampled one is a clip without pixels (tests/unit/test_media_tokens.py). Nothing of ours stands behind it."""
    pytest.importorskip("vllm", reason="vLLM is not installed here")
    from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension
    from verl.workers.rollout.vllm_rollout.vllm_async_server import vLLMHttpServer

    start = inspect.getsource(vLLMHttpServer.run_server)
    for part in ('method="monkey_patch_model"', "get_vision_placeholder_token_ids(self.model_config.processor)"):
        assert part in start, f"{VERSIONS}: a server forbids them as it starts; else forbid them in CareAgentLoop.run"
    worker = inspect.getsource(vLLMColocateWorkerExtension.monkey_patch_model)
    assert "monkey_patch_compute_logits(model, vocab_size, banned_token_ids)" in worker, VERSIONS
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner

    assert "self.model.compute_logits(" in inspect.getsource(GPUModelRunner), "vLLM samples from what verl has masked"


def test_only_the_media_of_the_text_are_kept():
    """compat._read_no_marks_in_a_response hands it the prompt alone."""
    from verl.experimental.agent_loop.agent_loop import AgentLoopWorker
    from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopWorkerTQ

    mended = AgentLoopWorker._compute_multi_modal_inputs
    worker = AgentLoopWorkerTQ.__ray_metadata__.modified_class  # pyright: ignore[reportFunctionMemberAccess, reportAttributeAccessIssue]
    found = inspect.unwrap(worker._compute_multi_modal_inputs, stop=lambda function: function is mended)
    assert found is mended, f"{VERSIONS}: the trainer's worker is made of the mended one"
    compute = inspect.getsource(mended)
    assert "def _compute_multi_modal_inputs(self, output, input_ids)" in compute, VERSIONS
    for part in ("skip_special_tokens=True", 'pop("input_ids", None)', 'pop("attention_mask", None)'):
        assert part in compute, f"{VERSIONS}: the text serves the media alone"


def test_a_prompt_s_tokens_are_built_by_one_call_that_a_loop_may_override(run_source):
    """`CareAgentLoop.ct_build_initial_tokens` builds those of a group once."""
    from verl.experimental.agent_loop.agent_loop import AgentLoopBase

    assert run_source.count("await self.ct_build_initial_tokens(\n") == 1, VERSIONS
    assert "messages = list(kwargs[" in run_source, f"{VERSIONS}: a row's messages, the same for each response to it"
    hook = inspect.signature(AgentLoopBase.ct_build_initial_tokens).parameters
    assert list(hook) == ["self", "messages", "tools", "images", "videos", "audios", "mm_inputs_out"], VERSIONS


def test_a_group_s_responses_are_tasks_created_without_a_pause():
    """`PackedAgentLoopWorker._run_prompt` makes the group that they inherit, and `Group.together` counts on all."""
    text = inspect.getsource(agent_loop_worker()._run_prompt)
    created = text[text.index("tasks = []\n            for i in range(n):") : text.index("await _settle_session_tasks")]
    assert created.count("asyncio.create_task(") == 1, VERSIONS
    assert "self._run_agent_loop(" in created, VERSIONS
    assert "await" not in created, VERSIONS


def test_a_row_is_put_by_one_name_before_its_group_is_finished():
    """`RowsTogether` takes that name's place."""
    put, prompt = (
        inspect.getsource(getattr(agent_loop_worker(), name)) for name in ("_agent_loop_postprocess", "_run_prompt")
    )
    arguments = ("keys=keys", "fields=list_of_dict_to_tensordict(fields)", "tags=tags", "partition_id=")
    call = put[put.index("await tq.async_kv_batch_put(") :]
    assert put.count("tq.") == 1, f"{VERSIONS}: nothing else is asked of TransferQueue there"
    assert [call.count(argument) for argument in arguments] == [1] * 4, VERSIONS
    assert call.count("=", call.index("(")) - call.count("==") == 4, f"{VERSIONS}: and no other argument"
    assert "async_kv_batch_put" not in prompt, VERSIONS
    assert prompt.index("await _settle_session_tasks(tasks)") < prompt.index('tag={"status": status}'), VERSIONS


def agent_loop_worker():
    from verl_care.packing.rollouts import PackedAgentLoopWorker

    return PackedAgentLoopWorker.__mro__[1]


def test_a_reward_is_asked_of_a_handle_by_one_expression():
    """`InProcessRewards` stands in a handle's place, where `reward.num_workers=0` makes none."""
    from verl.experimental.agent_loop.agent_loop import AgentLoopWorker
    from verl.experimental.reward_loop.reward_loop import RewardLoopManager, RewardLoopWorker

    asked = inspect.getsource(AgentLoopWorker._compute_score)
    assert "handle = random.choice(self.reward_loop_worker_handles)" in asked, VERSIONS
    assert asked.count("handle.compute_score.remote(data)") == 1, VERSIONS
    assert asked.count("reward_loop_worker_handle") == 4, f"{VERSIONS}: and nothing else is asked of handles"
    assert inspect.iscoroutinefunction(RewardLoopWorker.compute_score), VERSIONS
    made = inspect.getsource(RewardLoopManager._init_reward_loop_workers)
    assert "for i in range(num_workers):" in made, f"{VERSIONS}: none is a number of workers"
