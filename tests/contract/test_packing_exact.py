"""The packed engine computes what verl's own does, on the same weights and batch: log-probabilities within 1e-5, loss
within 1e-6, gradients within 1e-5 of their length, in float32.
"""

import functools
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from benchmarks.engines import (
    Prompt,
    batch,
    configuration,
    gradients,
    loss_of,
    marked,
    one_process_group,
    response_values,
    start_engine,
)
from benchmarks.models import write_model
from tests.unit.masked_attention import MASKED
from verl_care.packing.attention import SPLIT
from verl_care.packing.engine import use_packed_attention

pytestmark = pytest.mark.timeout(600)
VISION = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
ARCHITECTURES = (*VISION, "qwen2", "qwen3")


@dataclass(frozen=True)
class Pair:
    """Both engines on one model."""

    config: Any
    stock: Any
    packed: Any
    sees: bool


@contextmanager
def unpatched_afterwards():
    """verl replaces methods of transformers' classes; other tests of this process shall not meet them."""
    saved = [
        (kind, name, kind.__dict__[name])
        for module in [m for key, m in sys.modules.items() if key.startswith("transformers.models.qwen")]
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, torch.nn.Module)
        for name in ("forward",)
        if name in kind.__dict__
    ]
    yield
    for kind, name, value in saved:
        setattr(kind, name, value)


@pytest.fixture(scope="module")
def process_group(tmp_path_factory):
    import transformers.models.qwen2_5_vl.modeling_qwen2_5_vl
    import transformers.models.qwen2_vl.modeling_qwen2_vl
    import transformers.models.qwen3_vl.modeling_qwen3_vl  # noqa: F401 - so that their classes are known

    with unpatched_afterwards(), one_process_group(tmp_path_factory.mktemp("group")):
        yield


@pytest.fixture(scope="module")
def pair_of(process_group, tmp_path_factory):
    """A pair for an architecture and overrides of the configuration; made once."""
    made: dict[Any, Pair] = {}

    def make(kind: str, *overrides: str) -> Pair:
        if (kind, overrides) not in made:
            folder = write_model(tmp_path_factory.mktemp(kind) / "model", kind)
            config = configuration(folder, *overrides)
            stock, packed = (seeded_engine(config, packed) for packed in (False, True))
            torch.set_num_threads(1)  # for models this small more only wait for each other
            made[kind, overrides] = Pair(config, stock, packed, kind in VISION)
        return made[kind, overrides]

    return make


def seeded_engine(config: Any, packed: bool) -> Any:
    torch.manual_seed(0)  # of LoRA's random half
    return start_engine(config, packed)


def data_for(pair: Pair, prompts, seed: int) -> Any:
    """A batch; for a model without vision without media, and with plain positions."""
    if not pair.sees:
        prompts = [Prompt(p.uid, p.responses, p.text, cut_off=p.cut_off) for p in prompts]
    data = batch(prompts, torch.Generator().manual_seed(seed))
    if not pair.sees:
        positions = [torch.arange(len(row)) for row in data["input_ids"].unbind()]
        data["position_ids"] = torch.nested.as_nested_tensor(positions, layout=torch.jagged)
    return data


def trained(engine: Any, config: Any, data: Any, **marks: Any) -> tuple[float, torch.Tensor, dict]:
    """Loss, gradients and metrics of an update."""
    with engine.train_mode():
        outputs = engine.forward_backward_batch(marked(data, **marks), loss_of(config))
        return sum(outputs["loss"]), gradients(engine), outputs["metrics"]


def scored(engine: Any, data: Any, *names: str, **marks: Any) -> list[torch.Tensor]:
    with engine.eval_mode():
        outputs = engine.infer_batch(marked(data, compute_loss=False, **marks))
    return [response_values(outputs, data, name) for name in names]


def assert_equal(pair: Pair, data: Any, **marks: Any) -> None:
    pairs = zip(
        *(scored(e, data, "log_probs", "entropy", calculate_entropy=True, **marks) for e in (pair.stock, pair.packed)),
        strict=True,
    )
    for theirs, ours in pairs:
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    their_loss, their_gradients, _ = trained(pair.stock, pair.config, data, **marks)
    our_loss, our_gradients, _ = trained(pair.packed, pair.config, data, **marks)
    assert our_loss == pytest.approx(their_loss, abs=1e-6)
    # where no token counts, or advantages are 0, both are 0
    assert float((our_gradients - their_gradients).norm()) <= 1e-5 * float(their_gradients.norm())


# 1 to 8 responses of 1 to 300 tokens, 0 to 2 videos and images, some cut off
grids = st.sampled_from([(1, 2, 2), (1, 4, 6), (2, 4, 4), (4, 2, 6)])
lengths = st.one_of(st.integers(1, 40), st.integers(1, 300))
prompts = st.lists(
    st.builds(
        Prompt,
        uid=st.uuids().map(str),
        responses=st.lists(lengths, min_size=1, max_size=8),
        text=st.integers(0, 60),
        videos=st.lists(grids, max_size=2),
        images=st.lists(grids.map(lambda grid: (1, *grid[1:])), max_size=2),
        cut_off=st.lists(st.integers(0, 5), max_size=8),
    ),
    min_size=1,
    max_size=3,
)


@settings(
    max_examples=25,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking would take longer than reading the example
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(prompts=prompts, seed=st.integers(0, 1000), attention=st.sampled_from([SPLIT, MASKED]))
def test_any_batch(pair_of, prompts, seed, attention):
    pair = pair_of("qwen2_5_vl")
    use_packed_attention(pair.packed.module, attention)
    try:
        assert_equal(pair, data_for(pair, prompts, seed))
    finally:
        use_packed_attention(pair.packed.module)


MIXED = [
    Prompt("video", [5, 9, 120, 7], videos=[(4, 4, 4)]),
    Prompt("both", [3, 3, 1, 11], text=30, videos=[(2, 4, 6), (1, 2, 2)], images=[(1, 2, 6)], cut_off=[1]),
    Prompt("text", [40], text=3),
    Prompt("images", [8, 2, 5], images=[(1, 4, 4), (1, 2, 2)]),
]


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_each_architecture(pair_of, kind):
    pair = pair_of(kind)
    assert_equal(pair, data_for(pair, MIXED, seed=1))


@pytest.mark.parametrize(
    "marks",
    [
        {"max_token_len_per_gpu": 260},  # several micro-batches, groups cut
        {"use_dynamic_bsz": False, "micro_batch_size_per_gpu": 3},
        {"temperature": 0.7},
        {"temperature": torch.linspace(0.5, 1.5, 12)},
    ],
    ids=str,
)
def test_micro_batches_and_temperatures(pair_of, marks):
    pair = pair_of("qwen2_5_vl")
    assert_equal(pair, data_for(pair, MIXED, seed=2), **marks)


SETTINGS = {
    "token-mean": ["actor_rollout_ref.actor.loss_agg_mode=token-mean"],
    "KL, entropy, clipping": [
        "actor_rollout_ref.actor.use_kl_loss=true",
        "actor_rollout_ref.actor.entropy_coeff=0.01",
        "actor_rollout_ref.actor.clip_ratio=0.05",
    ],
    "LoRA": ["actor_rollout_ref.model.lora_rank=4"],
    "checkpointing, offload": [
        "actor_rollout_ref.model.enable_gradient_checkpointing=true",
        "actor_rollout_ref.actor.fsdp_config.param_offload=true",
        "actor_rollout_ref.actor.fsdp_config.entropy_checkpointing=true",
    ],
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_of_the_update(pair_of, name):
    pair = pair_of("qwen2_5_vl", *SETTINGS[name])
    data = data_for(pair, MIXED, seed=3)
    data["rollout_is_weights"] = torch.nested.as_nested_tensor(
        [torch.rand(len(row)) + 0.5 for row in data["responses"].unbind()], layout=torch.jagged
    )
    assert_equal(pair, data)
    *_, theirs = trained(pair.stock, pair.config, data, calculate_entropy=True)
    *_, ours = trained(pair.packed, pair.config, data, calculate_entropy=True)
    assert theirs.keys() == ours.keys()
    for key, value in theirs.items():
        assert number(ours[key]) == pytest.approx(number(value), abs=1e-4), key


def number(metric: Any) -> float:
    """One of verl's metrics: an object that aggregates itself, or a value per micro-batch."""
    return float(metric.aggregate()) if hasattr(metric, "aggregate") else sum(map(float, metric)) / len(metric)


def test_only_the_tokens_wanted(pair_of):
    pair = pair_of("qwen2_5_vl")
    data = data_for(pair, MIXED, seed=4)
    generator = torch.Generator().manual_seed(0)
    wanted = [torch.rand(len(row), generator=generator) < 0.3 for row in data["responses"].unbind()]
    wanted[0][:] = False  # a row that fills up
    data["answer_mask"] = torch.nested.as_nested_tensor(wanted, layout=torch.jagged)
    (theirs,) = scored(pair.stock, data, "log_probs")
    logits = []
    hook = pair.packed.module.get_output_embeddings().register_forward_hook(
        lambda _module, _inputs, output: logits.append(output.size(1))
    )
    (ours,) = scored(pair.packed, data, "log_probs", logits_wanted_in="answer_mask")
    hook.remove()
    mask = torch.cat(wanted)
    torch.testing.assert_close(ours[mask], theirs[mask], rtol=0, atol=1e-5)
    assert ours[~mask].eq(0).all()
    assert logits == [int(mask.sum())]


def test_what_the_reference_would_have_written(pair_of):
    """RefGen: the likeliest token at each place, which comes by verl's hook for a teacher's logits."""
    from verl_care.ablations.choices import CHOICE, choices, likeliest

    pair = pair_of("qwen2_5_vl")
    data = data_for(pair, MIXED, seed=10)
    choose, chosen = functools.partial(choices, pick=likeliest), []
    for engine in (pair.stock, pair.packed):
        with engine.eval_mode():
            outputs = engine.infer_batch(marked(data, distillation_use_topk=True), loss_function=choose)
        chosen.append(response_values(outputs, data, CHOICE))
    assert torch.equal(*chosen)
    assert len(chosen[0].unique()) > 5


def test_rows_without_a_uid_are_groups_of_their_own(pair_of):
    pair = pair_of("qwen2_5_vl")
    data = data_for(pair, MIXED, seed=6)
    del data["uid"]
    assert_equal(pair, data)


def test_equal_uids_do_not_make_different_prompts_one(pair_of):
    pair = pair_of("qwen2_5_vl")
    prompts = [Prompt("same", [4, 5], text=text) for text in (3, 9)]
    assert_equal(pair, data_for(pair, prompts, seed=7))


def test_the_vision_tower_sees_a_clip_once(pair_of):
    pair = pair_of("qwen2_5_vl")
    data = data_for(pair, [Prompt("video", [5] * 8, videos=[(4, 4, 4)])], seed=8)
    seen: dict[str, list[int]] = {"stock": [], "packed": []}
    for name, patches in seen.items():
        tower = getattr(pair, name).module.model.visual
        hook = tower.register_forward_pre_hook(lambda _module, inputs, patches=patches: patches.append(len(inputs[0])))
        scored(getattr(pair, name), data, "log_probs")
        hook.remove()
    assert seen == {"stock": [8 * 64], "packed": [64]}  # 4 * 4 * 4 patches


def test_bf16_is_no_further_from_the_truth(pair_of):
    exact = pair_of("qwen2_5_vl")
    half = pair_of(
        "qwen2_5_vl",
        *(f"actor_rollout_ref.{role}.fsdp_config.mixed_precision.param_dtype=bf16" for role in ("actor", "ref")),
    )
    data = data_for(exact, [Prompt(str(n), [200] * 8, videos=[(4, 8, 8)]) for n in range(2)], seed=9)
    (truth,) = scored(exact.stock, data, "log_probs")
    theirs, ours = (
        float((scored(engine, data, "log_probs")[0].float() - truth).square().mean().sqrt())
        for engine in (half.stock, half.packed)
    )
    assert theirs > 1e-4  # it is another precision
    assert ours < 1.05 * theirs


def test_the_same_rollouts_train_the_same_weights(pair_of):
    """Four optimizer steps at the quick start's learning rate. AdamW divides by the gradient's size, so that rounding
    decides where a gradient is as good as 0: weights are compared as a whole."""
    pair = pair_of("qwen2_5_vl", "actor_rollout_ref.actor.optim.lr=5e-5")
    batches = [data_for(pair, MIXED, seed=seed) for seed in range(4)]
    ends = []
    for engine in (pair.stock, pair.packed):
        start = weights(engine)
        for data in batches:
            with engine.train_mode():
                engine.train_batch(marked(data), loss_of(pair.config))
        ends.append((start, weights(engine)))
    (start, theirs), (our_start, ours) = ends
    assert torch.equal(start, our_start)
    assert float((theirs - start).norm() / start.norm()) > 1e-3  # they moved
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-5


def weights(engine: Any) -> torch.Tensor:
    parameters = [p.full_tensor() for p in engine.module.parameters()]
    return torch.cat([parameter.detach().flatten() for parameter in parameters]).clone()
