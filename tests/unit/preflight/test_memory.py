"""The estimate line by line. Expected numbers are worked by hand, the arithmetic is in the comments."""

from dataclasses import replace

import pytest
from transformers.models.qwen2_5_vl import Qwen2_5_VLConfig

from recipes.preflight.memory import Plan, checkpoint, generation, host, total, update, vllm_least
from recipes.preflight.model_size import ModelSize, local_config, model_size

SIZE = ModelSize(
    parameters=1000, tower=200, largest_layer=100, outside_layers=300, layers=3, hidden=8, intermediate=20,
    vocabulary=50, key_value=4, tower_layers=2, tower_hidden=6, tower_intermediate=10, patches_per_token=4,
    tensors=(500, 300), tower_tensors=(200,),
)  # fmt: skip
PLAN = Plan(
    ranks=4, ranks_per_node=2, tokens=10, gpu_bytes=1600, vllm_share=0.5, tensor_parallel=1, model_length=5,
    param_offload=False, optimizer_offload=False, offload_policy=False, checkpointing=True, frozen_tower=False,
    reference=True, number=2, pins=False,
)  # fmt: skip


def values(lines):
    return {line.name: line.bytes for line in lines if line.name != "reserve"}


def test_update():
    assert values(update(SIZE, PLAN)) == {
        "weights": 1000,  # 4 * 1000 / 4
        "gradients": 1000,
        "Adam's moments": 2000,  # 8 * 1000 / 4
        "gathered layers": 1400,  # 2 * (300 + 2 * 100) + 4 * 100
        # kept: 2 * (10 * 8 * 3 + 40 * 6 * 2) = 2 * (240 + 480) = 1440
        # inner: language 2 * 10 * (64 + 80) = 2880, tower 2 * 40 * (48 + 40) = 7040, which is the larger
        "activations": 1440 + 7040,
        "logits": 4000,  # 4 * 2 * 10 * 50
    }


def test_without_checkpointing_every_layer_keeps_its_inner_activations():
    # 2880 * 3 + 7040 * 2
    assert values(update(SIZE, replace(PLAN, checkpointing=False)))["activations"] == 8640 + 14080


def test_a_frozen_tower_has_neither_gradients_nor_moments():
    found = values(update(SIZE, replace(PLAN, frozen_tower=True)))
    # (1000 - 200) * 4 / 4, and twice that; its weights stay
    assert (found["weights"], found["gradients"], found["Adam's moments"]) == (1000, 800, 1600)
    assert checkpoint(SIZE, replace(PLAN, frozen_tower=True)) == 4000 + 6400 + 4000


def test_float32_doubles_what_a_pass_makes():
    half, full = values(update(SIZE, PLAN)), values(update(SIZE, replace(PLAN, number=4)))
    assert full["logits"] == 2 * half["logits"]
    assert full["activations"] == 2 * half["activations"]
    assert full["weights"] == half["weights"]


@pytest.mark.parametrize(
    ("offload", "weights", "moments"),
    [("param_offload", 0, 2000), ("optimizer_offload", 1000, 0), ("offload_policy", 0, 0)],
)
def test_generation_and_offloading(offload, weights, moments):
    assert values(generation(SIZE, PLAN)) == {"vLLM": 800, "weights": 1000, "Adam's moments": 2000}  # 0.5 * 1600
    found = values(generation(SIZE, replace(PLAN, **{offload: True})))
    assert found == {"vLLM": 800, "weights": weights, "Adam's moments": moments}


def test_only_the_policy_keeps_the_update_small():
    for offload in ("param_offload", "optimizer_offload"):  # both are back for the update
        assert values(update(SIZE, replace(PLAN, **{offload: True}))) == values(update(SIZE, PLAN))
    found = values(update(SIZE, replace(PLAN, offload_policy=True)))
    assert (found["weights"], found["gradients"], found["Adam's moments"]) == (0, 0, 0)


def test_host():
    # half of the ranks are on a node: 4 * 1000 / 2; loading takes one whole copy
    expected = {"reference": 2000, "weights": 0, "gradients": 0, "Adam's moments": 0, "loading": 4000}
    assert values(host(SIZE, PLAN)) == expected
    found = values(host(SIZE, replace(PLAN, offload_policy=True, reference=False)))
    assert found == {"reference": 0, "weights": 2000, "gradients": 2000, "Adam's moments": 4000, "loading": 4000}
    assert values(host(replace(SIZE, tied=True), PLAN))["loading"] == 8000  # both ranks of the node


def test_pinned_memory_is_taken_in_powers_of_two():
    # shards of 500, 300 and 200 bytes (4 * 500 / 4 ...) take 512, 512 and 256, on two ranks
    pinned = replace(PLAN, pins=True)
    assert values(host(SIZE, pinned))["reference"] == 2560
    found = values(host(SIZE, replace(pinned, param_offload=True, optimizer_offload=True)))
    assert (found["weights"], found["gradients"], found["Adam's moments"]) == (2560, 0, 5120)
    # by the policy weights and gradients travel, the moments stay: 8 * 1000 / 2; a frozen tower leaves 512 + 512
    found = values(host(SIZE, replace(pinned, offload_policy=True)))
    assert (found["weights"], found["gradients"], found["Adam's moments"]) == (2560, 2560, 4000)
    found = values(host(SIZE, replace(pinned, offload_policy=True, frozen_tower=True)))
    assert (found["weights"], found["gradients"], found["Adam's moments"]) == (2560, 2048, 3200)


def test_vllm_needs_its_weights_and_one_response():
    # 2 * (1000 + 5 tokens * 3 layers * 4) = 2 * 1060; half of it with two GPUs to a replica
    assert vllm_least(SIZE, PLAN) == 2120
    assert vllm_least(SIZE, replace(PLAN, tensor_parallel=2)) == 1060


def test_checkpoint_and_total():
    assert checkpoint(SIZE, PLAN) == 4000 + 8000 + 4000  # weights, moments, reference
    assert checkpoint(SIZE, replace(PLAN, reference=False)) == 12000
    assert total(generation(SIZE, PLAN)) == 3800 + 4 * 2**30


def qwen(hidden, layers, heads, kv_heads, intermediate, vocabulary, tied):
    """The published config.json of Qwen2.5-VL, as far as sizes go."""
    vision = {
        "depth": 32, "hidden_size": 1280, "num_heads": 16, "intermediate_size": 3420, "out_hidden_size": hidden,
        "patch_size": 14, "window_size": 112, "fullatt_block_indexes": [7, 15, 23, 31],
    }  # fmt: skip
    text = {
        "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": kv_heads, "intermediate_size": intermediate, "vocab_size": vocabulary,
        "tie_word_embeddings": tied,
    }  # fmt: skip
    return Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=tied)


@pytest.mark.parametrize(
    ("config", "parameters", "layer"),
    [
        # a layer: q and o 2 * 3584^2, k and v 2 * 3584 * 512, their biases 3584 + 2 * 512,
        # gate, up, down 3 * 3584 * 18944, two norms 2 * 3584; the total is that of the published checkpoint
        (qwen(3584, 28, 28, 4, 18944, 152064, False), 8_292_166_656, 233_057_792),
        (qwen(2048, 36, 16, 2, 11008, 151936, True), 3_754_622_976, 77_076_992),
    ],
    ids=["7B", "3B"],
)
def test_sizes_of_the_published_models(config, parameters, layer):
    found = model_size(config)
    assert found.parameters == parameters
    assert found.largest_layer == layer
    assert found.key_value == 2 * config.text_config.num_key_value_heads * 128
    assert found.tied == config.tie_word_embeddings
    assert sum(found.tensors) + sum(found.tower_tensors) == parameters


def test_qwen3_vl_is_counted_too():
    from transformers.models.qwen3_vl import Qwen3VLConfig

    found = model_size(Qwen3VLConfig())
    assert 0 < found.tower < found.parameters
    assert found.tower_layers == Qwen3VLConfig().vision_config.depth


def test_a_configuration_that_is_not_here(tmp_path):
    assert local_config(str(tmp_path / "nowhere")) is None
    qwen(64, 2, 4, 2, 128, 256, False).save_pretrained(tmp_path)
    assert model_size(local_config(str(tmp_path))).hidden == 64
