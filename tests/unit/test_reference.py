"""The reference beside the policy: its average, its distance, and a file that gives back every bit."""

import math

import pytest
import torch
from safetensors import safe_open
from torch import nn

from verl_care.reference import EmaReference, shard_file_name

FILE = "reference_world_size_1_rank_0.safetensors"


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5), nn.Linear(5, 2, bias=False))


def same_bits(left: nn.Module, right: nn.Module) -> bool:
    pairs = zip(left.parameters(), right.parameters(), strict=True)
    return all(torch.equal(a.view(torch.int32), b.view(torch.int32)) for a, b in pairs)


@pytest.mark.parametrize("policy_dtype", [torch.float32, torch.bfloat16])
def test_the_average_after_k_steps_is_the_closed_form(policy_dtype):
    # phi_k = d^k phi_0 + (1 - d) * sum over i of d^(k-1-i) theta_i
    policy, reference, decay, steps = network(0).to(policy_dtype), network(1), 0.9, 7
    expected = [parameter.detach().double() * decay**steps for parameter in reference.parameters()]
    ema = EmaReference(policy, reference)
    for step in range(steps):
        with torch.no_grad():
            for parameter, total in zip(policy.parameters(), expected, strict=True):
                parameter.add_(torch.randn_like(parameter))
                total += (1 - decay) * decay ** (steps - 1 - step) * parameter.double()
        ema.update(decay)
    for parameter, total in zip(reference.parameters(), expected, strict=True):
        assert parameter.dtype == torch.float32
        assert (parameter - total).abs().max() < 1e-6


def test_the_policy_is_left_alone():
    policy, before = network(0), network(0)
    EmaReference(policy, network(1)).update(0.5)
    assert same_bits(policy, before)


def test_distance_by_hand():
    policy, reference = nn.Linear(2, 1), nn.Linear(2, 1)
    with torch.no_grad():
        policy.weight.copy_(torch.tensor([[3.0, 0.0]]))
        policy.bias.fill_(4.0)
        reference.weight.copy_(torch.tensor([[3.0, 2.0]]))
        reference.bias.fill_(3.0)
    ema = EmaReference(policy, reference)
    assert ema.distance() == pytest.approx(math.sqrt(5) / 5)  # sqrt(0 + 4 + 1) / sqrt(9 + 0 + 16)
    # the update returns the distance after it: half the differences, so half the distance
    assert ema.update(0.5) == pytest.approx(math.sqrt(5) / 10)
    assert ema.update(0.0) == 0.0


def test_different_models_do_not_pair_up():
    with pytest.raises(ValueError, match=r"namely \['2\.weight'\].*actor_rollout_ref\.model\.path"):
        EmaReference(network(0), network(0)[:2])
    other = nn.Module()
    for name, parameter in reversed(list(network(0)[0].named_parameters())):
        other.register_parameter(name, parameter)
    with pytest.raises(ValueError, match="their order"):
        EmaReference(network(0)[0], other)


def test_saved_and_loaded_is_the_same_to_the_bit(tmp_path):
    reference, other = network(0), network(1)
    with torch.no_grad():
        next(reference.parameters())[0] = torch.tensor([1e-45, -0.0, float("inf")])
    EmaReference(network(2), reference).save(tmp_path / "new" / "folder")
    parameters = list(other.parameters())
    EmaReference(network(2), other).load(tmp_path / "new" / "folder")
    assert same_bits(reference, other)
    assert parameters == list(other.parameters())  # in place: FSDP and the optimizer keep what they hold
    assert [file.name for file in (tmp_path / "new" / "folder").iterdir()] == [FILE]


def test_an_unfinished_save_leaves_the_earlier_file(tmp_path, monkeypatch):
    earlier = network(0)
    EmaReference(network(2), earlier).save(tmp_path)

    def killed(tensors, path, metadata):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("safetensors.torch.save_file", killed)
        with pytest.raises(KeyboardInterrupt):
            EmaReference(network(2), network(1)).save(tmp_path)
    loaded = network(3)
    EmaReference(network(2), loaded).load(tmp_path)
    assert same_bits(loaded, earlier)


def test_the_file_can_be_read_without_us(tmp_path):
    reference = network(0)
    EmaReference(network(1), reference).save(tmp_path)
    with safe_open(tmp_path / FILE, framework="pt") as file:
        assert sorted(file.keys()) == sorted(name for name, _ in reference.named_parameters())
        assert torch.equal(file.get_tensor("0.bias"), reference[0].bias)


def test_saved_on_another_number_of_ranks(tmp_path):
    for rank in range(2):
        (tmp_path / shard_file_name(rank, 2)).touch()
    with pytest.raises(FileNotFoundError) as caught:
        EmaReference(network(0), network(1)).load(tmp_path)
    for text in (FILE, shard_file_name(0, 2), shard_file_name(1, 2), "trainer.nnodes", "trainer.n_gpus_per_node"):
        assert text in str(caught.value)


def test_nothing_saved(tmp_path):
    with pytest.raises(FileNotFoundError, match="found none"):
        EmaReference(network(0), network(1)).load(tmp_path / "nowhere")


def test_another_models_file(tmp_path):
    EmaReference(network(0)[:1], network(0)[:1]).save(tmp_path)
    with pytest.raises(ValueError, match=r"another model's parameters: \['1\.bias', '1\.weight', '2\.weight'\]"):
        EmaReference(network(0), network(1)).load(tmp_path)


def test_parameters_of_another_shape_are_not_spread_out(tmp_path):
    narrow, wide = nn.Linear(1, 4), nn.Linear(3, 4)  # (4, 1) would broadcast into (4, 3)
    EmaReference(narrow, narrow).save(tmp_path)
    with pytest.raises(ValueError, match=r"\['weight'\] differ"):
        EmaReference(wide, wide).load(tmp_path)


@pytest.mark.parametrize("size", [0, 5, 200])
def test_a_damaged_file(tmp_path, size):
    EmaReference(network(0), network(1)).save(tmp_path)
    content = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(content[:size])
    with pytest.raises(ValueError, match=f"{FILE} is damaged .* earlier checkpoint"):
        EmaReference(network(0), network(1)).load(tmp_path)
