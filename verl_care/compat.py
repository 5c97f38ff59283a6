"""Run-time patches of verl 0.9.1, transformers 5.9.0 and vLLM 0.24.0 that every platform needs.

Each names the lines it answers. A patch is here only because there is no extension point at that place. It is applied
right after somebody imports the module in question, so that everyone who imports the name from there gets the mended
one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from types import ModuleType
from typing import Any

import wrapt


def apply() -> None:
    """Mend the modules below as soon as verl imports them."""
    wrapt.register_post_import_hook(_mend_position_ids, "verl.utils.tensordict_utils")
    wrapt.register_post_import_hook(_mend_visual_embedding, "verl.models.transformers.qwen2_vl")
    wrapt.register_post_import_hook(_call_the_tower_once, "verl.models.transformers.qwen3_vl")
    mend_positions()
    wrapt.register_post_import_hook(_pass_seconds, "transformers.models.qwen2_5_vl.processing_qwen2_5_vl")
    wrapt.register_post_import_hook(_keep_clips_of_a_prompt_together, "vllm.model_executor.models.qwen2_vl")
    wrapt.register_post_import_hook(_keep_groups_together, "verl.workers.engine.fsdp.transformer_impl")
    wrapt.register_post_import_hook(_read_no_marks_in_a_response, "verl.experimental.agent_loop.agent_loop")
    wrapt.register_post_import_hook(_keep_trainings_apart, "verl.workers.rollout.vllm_rollout.bucketed_weight_transfer")


def mend_positions() -> None:
    """The positions alone, for whoever runs a model of transformers without verl."""
    for family in ("qwen2_vl", "qwen2_5_vl"):
        wrapt.register_post_import_hook(_mend_rope_index, f"transformers.models.{family}.modeling_{family}")


def _mend_position_ids(module: ModuleType) -> None:
    """verl 0.9.1 utils/tensordict_utils.py:910 `maybe_fix_3d_position_ids`.

    TransferQueue (simple_storage_manager.py:574) packs the 4 x L position ids of a batch as one jagged
    tensor. When all L are equal, torch takes the first dimension for the ragged one, and the values lie
    as (4 B, L). verl then says "ragged in the last dimension" without looking: a crash in
    update_actor, or silently permuted positions when 4 B == L.
    """
    from_list = module.nested_tensor_from_tensor_list

    def maybe_fix_3d_position_ids(data: Any) -> None:
        if "position_ids" not in data.keys():  # noqa: SIM118 - a TensorDict is no dict
            return
        position_ids = data["position_ids"]
        if not (position_ids.is_nested and position_ids.dim() == 3):
            return
        if position_ids._ragged_idx == 2:
            return
        values, offsets = position_ids.values(), position_ids.offsets()
        if values.size(0) == 4 and int(offsets[-1]) == values.size(1):
            # packed as verl expects; tensordict's consolidate() has only forgotten which dimension is ragged
            position_ids._ragged_idx = 2
        else:
            rows = values.view(offsets.numel() - 1, 4, values.size(1))
            data["position_ids"] = from_list(list(rows.unbind()))

    module.maybe_fix_3d_position_ids = maybe_fix_3d_position_ids  # type: ignore[attr-defined]


def _mend_visual_embedding(module: ModuleType) -> None:
    """verl 0.9.1 models/transformers/qwen2_vl.py:342-398 `_get_input_embeds` (Qwen2-VL, Qwen2.5-VL).

    1. Rows without vision run the tower on a blank patch, so that FSDP's collectives match those of the
       other ranks; line 393 takes the mean of what transformers 5 returns, an output object without one.
    2. The tower runs once for images and once more for videos. A rank whose rows have both then makes
       more collective calls than a rank whose rows have one: a hang. Here it always runs once.
    """
    from verl_care.vision_tower import embed_text_and_vision

    module._get_input_embeds = embed_text_and_vision  # type: ignore[attr-defined]


def _call_the_tower_once(module: ModuleType) -> None:
    """verl 0.9.1 models/transformers/qwen3_vl.py:216,235 `_get_input_embeds` (Qwen3-VL).

    Point 2 above: once for images, once more for videos. Here verl's function is given the parts of one call.
    """
    from verl_care.vision_tower import SeenTogether

    embed = module._get_input_embeds

    @wraps(embed)
    def _get_input_embeds(
        model: Any,
        input_ids: Any,
        attention_mask: Any = None,
        pixel_values: Any = None,
        pixel_values_videos: Any = None,
        image_grid_thw: Any = None,
        video_grid_thw: Any = None,
    ) -> Any:
        # A process that loads the plugin twice patches twice; what has been seen is not looked at again.
        if pixel_values is not None and pixel_values_videos is not None and not isinstance(model, SeenTogether):
            model = SeenTogether(model, (pixel_values, image_grid_thw), (pixel_values_videos, video_grid_thw))
        return embed(
            model, input_ids, attention_mask, pixel_values, pixel_values_videos, image_grid_thw, video_grid_thw
        )

    module._get_input_embeds = _get_input_embeds  # type: ignore[attr-defined]


def _mend_rope_index(module: ModuleType) -> None:
    """transformers 5.9.0 modeling_qwen2_5_vl.py:1070,1077 and modeling_qwen2_vl.py:1051; see `verl_care.positions`.

    verl gives the actor these positions and vLLM computes its own. Unmended, the two disagree on every clip with more
    temporal than spatial extent, and what is trained is not what was sampled.
    """

    def get_rope_index(
        self: Any,
        input_ids: Any,
        mm_token_type_ids: Any,
        image_grid_thw: Any = None,
        video_grid_thw: Any = None,
        second_per_grid_ts: Any = None,
        attention_mask: Any = None,
        **_: Any,
    ) -> tuple[Any, Any]:
        from verl_care.positions import rope_index

        vision = self.config.vision_config
        return rope_index(
            input_ids,
            mm_token_type_ids,
            image_grid_thw,
            video_grid_thw,
            second_per_grid_ts,
            attention_mask,
            spatial_merge_size=vision.spatial_merge_size,
            tokens_per_second=getattr(vision, "tokens_per_second", None),
        )

    for name in ("Qwen2VLModel", "Qwen2_5_VLModel"):
        if hasattr(module, name):
            getattr(module, name).get_rope_index = get_rope_index


def _pass_seconds(module: ModuleType) -> None:
    """verl 0.9.1 agent_loop.py:948 asks the processor for further arguments of `get_rope_index`; it has none to give.

    An extension point, and so no patch of a line: without it the actor takes every clip for one sampled at 2 fps.
    """

    def get_rope_index_kwargs(_self: Any, multi_modal_inputs: Any) -> dict[str, Any]:
        seconds = multi_modal_inputs.get("second_per_grid_ts")
        return {} if seconds is None else {"second_per_grid_ts": seconds}

    module.Qwen2_5_VLProcessor.get_rope_index_kwargs = get_rope_index_kwargs  # type: ignore[attr-defined]


def _keep_clips_of_a_prompt_together(module: ModuleType) -> None:
    """vLLM 0.24.0 multimodal/processing/processor.py:1299 `_get_cache_missing_items` (Qwen2-VL, Qwen2.5-VL).

    Of a prompt with several clips it hands the processor those alone that its cache has lost, and with them the
    metadata of all clips: "The length of fps (2) must be equal to the length of video_grid_thw (1)", and the rollout
    fails. Here all items of a kind come from the cache, or none does.
    """
    base = module.Qwen2VLMultiModalProcessor
    get_missing = base._get_cache_missing_items

    class AllOrNone:
        def __init__(self, cache: Any):
            self._cache = cache

        def is_cached(self, hashes: list[str]) -> list[bool]:
            found = self._cache.is_cached(hashes)
            return found if all(found) else [False] * len(found)

    def _get_cache_missing_items(self: Any, cache: Any, mm_data_items: Any, mm_hashes: Any) -> Any:
        return get_missing(self, AllOrNone(cache), mm_data_items, mm_hashes)

    base._get_cache_missing_items = _get_cache_missing_items


def _keep_groups_together(module: ModuleType) -> None:
    """verl 0.9.1 transformer_impl.py:737 cuts a rank's batch into micro-batches by length alone.

    Its `force_group_size` knows neither groups of unequal size nor shared prompts. The packed engine marks its batches;
    all others take verl's way.
    """
    by_length = module.prepare_micro_batches

    def prepare_micro_batches(data: Any, dp_group: Any = None, **kwargs: Any) -> Any:
        from verl.utils import tensordict_utils as tu

        from verl_care.packing import batching

        if tu.get_non_tensor_data(data, "keep_groups", False):
            return batching.prepare_micro_batches(data, dp_group)
        return by_length(data=data, dp_group=dp_group, **kwargs)

    module.prepare_micro_batches = prepare_micro_batches  # type: ignore[attr-defined]


def _read_no_marks_in_a_response(module: ModuleType) -> None:
    """verl 0.9.1 agent_loop.py:894 `_compute_multi_modal_inputs` hands the processor prompt and response as one text.

    Marks that are tokens are left out of it. A response that spells `<|video_pad|>` with letters becomes a mark there:
    the second one, or the first beside no other clip, is "index 1 is out of bounds", and the prompt is lost with all
    its responses. Of what the processor makes only the media are kept, and these are the prompt's.
    """
    of_a_text = module.AgentLoopWorker._compute_multi_modal_inputs

    @wraps(of_a_text)
    def _compute_multi_modal_inputs(self: Any, output: Any, _input_ids: Any) -> dict[str, Any]:
        import torch

        return of_a_text(self, output, torch.tensor(output.prompt_ids))

    module.AgentLoopWorker._compute_multi_modal_inputs = _compute_multi_modal_inputs


def put_rows_by(queue: Callable[[Any], Any]) -> None:
    """verl 0.9.1 trainer/ppo/v1/agent_loop_tq.py:222-227 puts each response by itself, with columns made for it alone.

    Asked for by the worker that keeps groups together, whose process has that module to itself: `queue` is made of the
    module `transfer_queue`, gets the rows of a response as they are, and makes the columns.
    """
    from verl.trainer.ppo.v1 import agent_loop_tq

    verls: Any = agent_loop_tq
    if verls.list_of_dict_to_tensordict is not list:
        verls.tq, verls.list_of_dict_to_tensordict = queue(verls.tq), list


def _keep_trainings_apart(module: ModuleType) -> None:
    """verl 0.9.1 vllm_rollout.py:141 names the socket of a weight sync by Ray's job id and ranks.

    The first job of every Ray cluster is 01000000. Two trainings on one host, each with a Ray of its own, so meet at
    one socket: each then waits for the other's weights for ever, or samples with them. A raylet's process is another in
    each cluster, and both ends of a socket are processes of one raylet.
    """

    def with_own_socket(start: Callable[..., None]) -> Callable[..., None]:
        @wraps(start)
        def __init__(self: Any, zmq_handle: str, *args: Any, **kwargs: Any) -> None:
            start(self, own_socket(zmq_handle), *args, **kwargs)

        return __init__

    for end in (module.BucketedWeightSender, module.BucketedWeightReceiver):
        end.__init__ = with_own_socket(end.__init__)


def own_socket(handle: str) -> str:
    """The handle with the raylet's process in it; as it is where no raylet started this process."""
    raylet = os.environ.get("RAY_RAYLET_PID")
    return f"{handle.removesuffix('.sock')}-raylet-{raylet}.sock" if raylet else handle
