"""What of verl we replace or refuse, read from its files as they were installed, a test per seam."""

import inspect
import re

import pytest
from verl.utils import distributed

from tests.contract.seams import SITE, parameters, seam, unpatched_source
from verl_care.vision_tower import embed_text_and_vision


def test_the_backend_that_names_a_device_twice():
    text = unpatched_source("utils/distributed.py")
    line = 'backend = backend or f"cpu:gloo,{get_device_name()}:{get_nccl_backend()}"'
    seam(line in text, "the backend string", "platforms.cpu.platform._one_backend_per_device")
    theirs = text.split("def initialize_global_process_group_ray(")[1].split(")")[0]
    ours = ", ".join(str(p) for p in inspect.signature(distributed.initialize_global_process_group_ray).parameters)
    seam([part.split("=")[0] for part in theirs.split(", ")] == ours.split(", "), "its arguments", "the same")


def test_vllms_version_is_asked_of_the_distribution():
    text = unpatched_source("third_party/vllm/__init__.py")
    seam("from importlib.metadata import PackageNotFoundError, version" in text, "how it asks", "_answer_for_vllm")
    seam('package_name = "vllm"' in text, "the name it asks for", "platforms.cpu.vllm._answer_for_vllm")


def test_what_is_patched_is_still_there():
    """The names in `compat` and `platforms.cpu` that are replaced."""
    for relative, definition, ours in (
        ("utils/tensordict_utils.py", "def maybe_fix_3d_position_ids(data: TensorDict):", "_mend_position_ids"),
        ("utils/tensordict_utils.py", "def nested_tensor_from_tensor_list(", "_mend_position_ids"),
        ("models/transformers/qwen2_vl.py", "def _get_input_embeds(", "_mend_visual_embedding"),
        ("models/transformers/qwen2_vl.py", "= _get_input_embeds(", "_mend_visual_embedding"),
        ("utils/distributed.py", "def initialize_global_process_group_ray(", "_one_backend_per_device"),
        ("workers/engine/fsdp/transformer_impl.py", "CPUOffloadPolicy(pin_memory=True)", "_register_engine"),
    ):
        seam(definition in unpatched_source(relative), f"{relative}: {definition}", ours)
    text = unpatched_source("models/transformers/qwen2_vl.py").split("def _get_input_embeds(")[1].split("):")[0]
    theirs = re.findall(r"^    (\w+)", text, re.MULTILINE)
    ours = parameters(embed_text_and_vision)
    seam(theirs == ours, f"_get_input_embeds{tuple(theirs)}", "vision_tower.embed_text_and_vision")
    text = unpatched_source("models/transformers/qwen3_vl.py")
    for part in ("(pixel_values, grid_thw=image_grid_thw)", "pixel_values_videos, grid_thw=video_grid_thw"):
        seam(part in text, f"the tower is handed {part}", "vision_tower.SeenTogether")
    seam(
        "= _get_input_embeds(\n" in text.split("def qwen3_vl_base_forward(")[1], "by that name", "_call_the_tower_once"
    )


@pytest.mark.parametrize("key", ["freeze_vision_tower", "use_prefix_grouper"])
def test_settings_that_verl_accepts_and_ignores(key):
    """T18: checks/method.py refuses them; once verl's V1 trainer reads one, it can be allowed."""
    read = [
        str(file.relative_to(SITE))
        for folder in ("trainer/ppo/v1", "workers/engine", "workers/utils")
        for file in (SITE / folder).rglob("*.py")
        if re.search(rf"(actor|actor_config|self\.config|engine_config|model_config)\.{key}\b", file.read_text())
    ]
    seam(
        not read and key in unpatched_source("trainer/config/actor/actor.yaml"),
        f"{key} is unread ({read})",
        "the check",
    )
