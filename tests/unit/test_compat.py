"""The run-time patches of verl: position ids of every batch shape, and vision in every mixture.

Each has a test that verl's own code still gets it wrong: when that one fails, the patch can go.
"""

import copy
import pickle
import socket
import subprocess
import sys
import types
from datetime import timedelta

import pytest
import torch
import verl
import verl.utils.tensordict_utils as tu
from tensordict import TensorDict
from verl.models.transformers import monkey_patch, qwen2_vl

from recipes.quickstart.model import build_model, build_tokenizer


def unpatched(module: types.ModuleType, name: str):
    """A function of verl's as its source has it."""
    source = types.ModuleType(module.__name__ + "_source")
    source.__dict__.update({key: module.__dict__[key] for key in ("__name__", "__package__", "__file__", "__spec__")})
    with open(module.__file__) as file:
        exec(compile(file.read(), module.__file__, "exec"), source.__dict__)
    return getattr(source, name)


# (12, 12, 12) and (8, 8) have 4 * batch == length; (4,) has it with one row
LENGTHS = [(5, 5, 5), (5, 7, 6), (12, 12, 12), (8, 8), (4,), (9,), (1, 1), (3, 3, 3, 3)]


class TestPositionIds:
    @staticmethod
    def batch(lengths):
        rows = [torch.arange(4 * length).view(4, length) + 1000 * row for row, length in enumerate(lengths)]
        # as TransferQueue packs a field (simple_storage_manager.py:574)
        packed = torch.nested.as_nested_tensor(rows, layout=torch.jagged)
        return rows, TensorDict({"position_ids": packed}, batch_size=[len(rows)])

    @staticmethod
    def same(batch, rows):
        found = batch["position_ids"].unbind()
        return len(found) == len(rows) and all(map(torch.equal, found, rows))

    @pytest.mark.parametrize("lengths", LENGTHS, ids=str)
    def test_values_are_preserved(self, lengths):
        rows, batch = self.batch(lengths)
        tu.maybe_fix_3d_position_ids(batch)
        assert self.same(batch, rows)
        assert batch["position_ids"]._ragged_idx == 2
        assert batch["position_ids"].values().shape == (4, sum(lengths))  # what verl's engine reads

    @pytest.mark.parametrize("lengths", LENGTHS, ids=str)
    def test_twice_is_once(self, lengths):
        # train_mini_batch mends the batch and then each mini-batch
        rows, batch = self.batch(lengths)
        tu.maybe_fix_3d_position_ids(batch)
        tu.maybe_fix_3d_position_ids(batch)
        assert self.same(batch, rows)

    @pytest.mark.parametrize("lengths", LENGTHS, ids=str)
    def test_rows_selected_from_it(self, lengths):
        rows, batch = self.batch(lengths)
        tu.maybe_fix_3d_position_ids(batch)
        chosen = [len(rows) - 1, 0]
        selected = tu.index_select_tensor_dict(batch, chosen)
        tu.maybe_fix_3d_position_ids(selected)
        assert self.same(selected, [rows[index] for index in chosen])

    @pytest.mark.parametrize("mended_before", [False, True])
    @pytest.mark.parametrize("lengths", LENGTHS, ids=str)
    def test_after_a_journey_between_processes(self, lengths, mended_before):
        rows, batch = self.batch(lengths)
        if mended_before:
            tu.maybe_fix_3d_position_ids(batch)
        arrived = pickle.loads(pickle.dumps(batch.consolidate()))
        tu.maybe_fix_3d_position_ids(arrived)
        assert self.same(arrived, rows)

    def test_text_only_positions_and_none_are_left_alone(self):
        flat = torch.nested.as_nested_tensor([torch.arange(3), torch.arange(5)], layout=torch.jagged)
        batch = TensorDict({"position_ids": flat}, batch_size=[2])
        tu.maybe_fix_3d_position_ids(batch)
        assert [row.tolist() for row in batch["position_ids"].unbind()] == [[0, 1, 2], [0, 1, 2, 3, 4]]
        tu.maybe_fix_3d_position_ids(TensorDict({"input_ids": torch.zeros(2, 3)}, batch_size=[2]))

    def test_everybody_who_imports_the_name_gets_the_mended_one(self):
        from verl.workers import engine_workers

        assert engine_workers.maybe_fix_3d_position_ids is tu.maybe_fix_3d_position_ids
        assert tu.maybe_fix_3d_position_ids.__module__ == "verl_care.compat"

    @pytest.mark.parametrize("lengths", [(5, 5, 5), (12, 12, 12)], ids=["a crash", "wrong positions"])
    def test_verl_itself_gets_it_wrong(self, lengths):
        rows, batch = self.batch(lengths)
        unpatched(tu, "maybe_fix_3d_position_ids")(batch)
        try:
            right = self.same(batch, rows)
        except RuntimeError:
            right = False
        assert not right, f"verl {verl.__version__} packs them well: compat._mend_position_ids can go"


IMAGE_GRID, VIDEO_GRID = [[1, 4, 6]], [[2, 4, 4], [1, 2, 2]]  # patches: time, height, width; two clips
IMAGE_TOKENS = [4 * 6 // 4]  # 2 x 2 patches make a token
VIDEO_TOKENS = [2 * 4 * 4 // 4, 2 * 2 // 4]
KINDS = ["text", "image", "video", "image and video"]


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


@pytest.fixture
def models(tokenizer, monkeypatch):
    """The same random Qwen2.5-VL twice: with transformers' forward pass and with verl's, as its engine patches it."""
    plain = build_model(tokenizer, seed=0).model
    patched_model = copy.deepcopy(plain)
    kind = type(plain)
    own_forward = kind.forward
    monkeypatch.setattr(kind, "forward", own_forward)  # undone afterwards: verl replaces it for the whole class
    whole = build_model(tokenizer, seed=0)
    monkeypatch.setattr(type(whole), "forward", type(whole).forward)
    monkey_patch.apply_monkey_patch(whole, use_remove_padding=False)
    assert kind.forward is not own_forward
    plain.forward = types.MethodType(own_forward, plain)
    return plain, patched_model


def mixed_inputs(tokenizer, kind):
    """One row with text, and an image and two clips where `kind` has them."""
    token = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("vision_start", "vision_end")}
    pads = {name: tokenizer.convert_tokens_to_ids(f"<|{name}_pad|>") for name in ("image", "video")}
    generator = torch.Generator().manual_seed(1)
    ids, inputs = [5, 6, 7], {}
    for name, keys, grid, counts in (
        ("video", ("pixel_values_videos", "video_grid_thw"), VIDEO_GRID, VIDEO_TOKENS),
        ("image", ("pixel_values", "image_grid_thw"), IMAGE_GRID, IMAGE_TOKENS),
    ):
        if name not in kind:
            continue
        for count in counts:
            ids += [token["vision_start"], *[pads[name]] * count, token["vision_end"], 9]
        grid_thw = torch.tensor(grid)
        patches = int(grid_thw.prod(-1).sum())
        inputs |= {keys[0]: torch.randn(patches, 3 * 2 * 14 * 14, generator=generator), keys[1]: grid_thw}
    ids += [10, 11]
    inputs["input_ids"] = torch.tensor([ids])
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    inputs["position_ids"] = torch.arange(len(ids)).expand(4, 1, -1).clone()
    return inputs


def seen_by_the_language_model(model, inputs):
    """The embeddings that the language model gets, its output, and how often the vision tower ran."""
    embeddings, calls = [], []
    hooks = [
        model.language_model.register_forward_pre_hook(
            lambda _, args, kwargs: embeddings.append(kwargs["inputs_embeds"]), with_kwargs=True
        ),
        model.visual.register_forward_hook(lambda *_: calls.append(1)),
    ]
    with torch.no_grad():
        output = model(**inputs).last_hidden_state
    for hook in hooks:
        hook.remove()
    return embeddings[0], output, len(calls)


class TestVision:
    @pytest.mark.parametrize("kind", KINDS)
    def test_the_tower_runs_exactly_once(self, models, tokenizer, kind):
        # FSDP gathers the tower's shards when it runs: ranks that run it differently often wait for each other for ever
        _, patched = models
        assert seen_by_the_language_model(patched, mixed_inputs(tokenizer, kind))[2] == 1

    @pytest.mark.parametrize("kind", KINDS)
    def test_embeddings_are_those_of_transformers(self, models, tokenizer, kind):
        plain, patched = models
        inputs = mixed_inputs(tokenizer, kind)
        expected, expected_output, _ = seen_by_the_language_model(plain, inputs)
        found, output, _ = seen_by_the_language_model(patched, inputs)
        text_embeddings = plain.get_input_embeddings()(inputs["input_ids"])
        assert torch.equal(text_embeddings, expected) == (kind == "text")  # the comparison is of something
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(output, expected_output, rtol=0, atol=1e-4)

    def test_gradients_reach_the_tower_and_are_zero_without_vision(self, models, tokenizer):
        _, patched = models
        for kind in ("text", "image and video"):
            patched.zero_grad()
            patched(**mixed_inputs(tokenizer, kind)).last_hidden_state.sum().backward()
            gradients = [parameter.grad for parameter in patched.visual.parameters()]
            assert all(gradient is not None for gradient in gradients)  # every rank takes part in each reduction
            assert any(gradient.any() for gradient in gradients) == (kind != "text")

    @pytest.mark.parametrize("name", ["image", "video"])
    def test_pixels_without_their_tokens(self, models, tokenizer, name):
        # a prompt can lose one
        _, patched = models
        inputs = mixed_inputs(tokenizer, "image and video")
        pad = tokenizer.convert_tokens_to_ids(f"<|{name}_pad|>")
        inputs["input_ids"][0, inputs["input_ids"][0].tolist().index(pad)] = 5
        with pytest.raises(ValueError, match=f"{name.capitalize()} features and tokens do not match"):
            patched(**inputs)

    def test_verl_itself_fails_without_vision(self, models, tokenizer):
        _, patched = models
        inputs = mixed_inputs(tokenizer, "text")
        try:
            unpatched(qwen2_vl, "_get_input_embeds")(patched, inputs["input_ids"], inputs["attention_mask"])
        except AttributeError:
            return
        pytest.fail(f"verl {verl.__version__} embeds text alone: point 1 of compat._mend_visual_embedding can go")

    def test_verl_itself_runs_the_tower_twice_for_image_and_video(self, models, tokenizer):
        _, patched = models
        calls = []
        patched.visual.register_forward_hook(lambda *_: calls.append(1))
        inputs = mixed_inputs(tokenizer, "image and video")
        del inputs["position_ids"]
        unpatched(qwen2_vl, "_get_input_embeds")(patched, **inputs)
        assert len(calls) == 2, f"verl {verl.__version__}: point 2 of compat._mend_visual_embedding can go"


def two_ranks() -> None:
    """Both ranks of the test below; forked, so that verl is imported once."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    torch.multiprocessing.start_processes(one_rank_of_two, (port,), nprocs=2, start_method="fork")
    print("both done")


def one_rank_of_two(rank: int, port: int) -> None:
    """Rank 0 has a row of text, rank 1 one with an image and clips: forward and backward through FSDP2."""
    from torch import distributed as dist
    from torch.distributed.fsdp import fully_shard

    dist.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2, timeout=timedelta(seconds=40)
    )
    tokenizer = build_tokenizer()
    model = build_model(tokenizer, seed=0)
    monkey_patch.apply_monkey_patch(model, use_remove_padding=False)
    mesh = dist.init_device_mesh("cpu", (2,))
    for block in (*model.model.visual.blocks, *model.model.language_model.layers):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    for kinds in (("text", "image and video"), ("image", "video"), ("video", "text")):
        model.zero_grad()
        model(**mixed_inputs(tokenizer, kinds[rank])).logits.float().square().mean().backward()
        norms = [float(parameter.grad.full_tensor().norm()) for parameter in model.parameters()]
        assert all(norm > 0 for norm in norms[:4]), "the gradient of the rank with vision reaches the tower"
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.timeout(120)
def test_two_ranks_with_different_rows_do_not_wait_for_each_other():
    code = "from tests.unit.test_compat import two_ranks; two_ranks()"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert "both done" in run.stdout, run.stderr


class TestClipsOfAPrompt:
    """vLLM's cache may have lost one of a prompt's clips and still hold the other."""

    @staticmethod
    def missing(method):
        class Cache:
            @staticmethod
            def is_cached(hashes):
                return [name.startswith("held") for name in hashes]

        self = types.SimpleNamespace(info=types.SimpleNamespace(parse_mm_data=lambda data, validate: data))
        items = {"video": ["clip a", "clip b"], "image": ["image a", "image b"]}
        hashes = {"video": ["held a", "lost b"], "image": ["held a", "held b"]}
        return method(self, Cache(), items, hashes)

    def test_they_stay_together(self):
        qwen = pytest.importorskip("vllm.model_executor.models.qwen2_vl", reason="vLLM is not installed here")
        cached, missing = self.missing(qwen.Qwen2VLMultiModalProcessor._get_cache_missing_items)
        assert cached == {"video": [False, False], "image": [True, True]}
        assert missing == {"video": ["clip a", "clip b"], "image": []}

    def test_vllm_still_parts_them(self):
        processing = pytest.importorskip("vllm.multimodal.processing", reason="vLLM is not installed here")
        _, missing = self.missing(processing.BaseMultiModalProcessor._get_cache_missing_items)
        assert missing["video"] == ["clip b"], "the patch can go"

    def test_and_transformers_still_refuses_the_metadata_of_both(self):
        from recipes.quickstart.model import build_processor

        with pytest.raises(ValueError, match=r"length of fps \(2\)"):
            build_processor()(
                text=["<|vision_start|><|video_pad|><|vision_end|>"],
                videos=[torch.zeros(4, 3, 56, 56, dtype=torch.uint8)],
                video_metadata=[{"fps": 2.0, "total_num_frames": 4, "frames_indices": [0, 1, 2, 3]}] * 2,
                do_sample_frames=False,
                return_tensors="pt",
            )
