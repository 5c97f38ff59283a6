"""EMA arithmetic against its closed form, and the shards it works on."""

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from verl_care.algorithm.ema import distance_sums, ema_update_


def test_one_step():
    reference, policy = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 0.0])
    ema_update_([reference], [policy], decay=0.75)
    assert reference.tolist() == [1.5, 1.5]  # 0.75 * 1 + 0.25 * 3; 0.75 * 2 + 0.25 * 0
    assert policy.tolist() == [3.0, 0.0]


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.995])
def test_a_random_walk_ends_at_the_closed_form(decay):
    # phi_k = d^k phi_0 + (1 - d) * sum over i of d^(k-1-i) theta_i
    generator = torch.Generator().manual_seed(0)
    steps = 50
    initial = torch.randn(64, generator=generator)
    walk_KD = initial + torch.randn(steps, 64, generator=generator).mul(0.1).cumsum(0)
    reference = initial.clone()
    for policy in walk_KD:
        ema_update_([reference], [policy], decay)
    weight_K = (1 - decay) * torch.tensor([decay ** (steps - 1 - i) for i in range(steps)], dtype=torch.float64)
    expected = decay**steps * initial.double() + weight_K @ walk_KD.double()
    assert (reference - expected).abs().max() < 1e-6 * expected.abs().max()


def test_decay_of_one_leaves_every_bit():
    reference = torch.tensor([1.0, -0.0, 1e-45, float("inf")])
    before = reference.clone()
    ema_update_([reference], [torch.tensor([float("inf"), 1.0, float("nan"), 0.0])], decay=1.0)
    assert torch.equal(reference.view(torch.int32), before.view(torch.int32))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_decay_of_zero_is_the_policy(dtype):
    reference, policy = torch.randn(1000), torch.randn(1000).to(dtype)
    ema_update_([reference], [policy], decay=0.0)
    assert torch.equal(reference, policy.float())


def test_float32_moves_where_bfloat16_would_not():
    # bfloat16 has 8 bits: around 1 its steps are 2^-7, and 0.005 * 2^-7 is far below half of one.
    reference, policy = torch.ones(1), torch.tensor([1 + 2**-7], dtype=torch.bfloat16)
    ema_update_([reference], [policy], decay=0.995)
    assert reference.item() == pytest.approx(1 + 0.005 * 2**-7, abs=1e-7)
    assert torch.lerp(torch.ones(1, dtype=torch.bfloat16), policy, 0.005).item() == 1.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [0, 7, 8, 9, 40])
def test_a_shard_of_several_blocks(monkeypatch, dtype, size):
    monkeypatch.setattr("verl_care.algorithm.ema._CPU_BLOCK", 8)
    generator = torch.Generator().manual_seed(size)
    reference, policy = torch.randn(size, 3, generator=generator), torch.randn(size, 3, generator=generator).to(dtype)
    expected = 0.9 * reference.double() + 0.1 * policy.double()
    ema_update_([reference], [policy], decay=0.9)
    assert torch.allclose(reference.double(), expected, atol=1e-6)
    difference, norm = distance_sums([reference], [policy]).tolist()
    assert difference == pytest.approx((expected - policy.double()).square().sum().item(), rel=1e-5)
    assert norm == pytest.approx(policy.double().square().sum().item(), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_shards_that_do_not_lie_in_one_piece(dtype):
    whole, policy = torch.zeros(3, 4), torch.ones(4, 3, dtype=dtype).T
    ema_update_([whole[:, ::2]], [policy[:, ::2]], decay=0.5)
    assert whole.tolist() == [[0.5, 0, 0.5, 0]] * 3
    assert distance_sums([whole[:, ::2]], [policy[:, ::2]]).tolist() == pytest.approx([1.5, 6.0])  # 6 * 0.5^2, 6 * 1


def test_no_whole_shard_is_copied(monkeypatch):
    """With a policy of another type, nothing larger than a block is allocated."""
    monkeypatch.setattr("verl_care.algorithm.ema._CPU_BLOCK", 1000)
    reference, policy = torch.zeros(100_000), torch.ones(100_000, dtype=torch.bfloat16)
    with torch.profiler.profile(profile_memory=True) as profile:
        ema_update_([reference], [policy], decay=0.5)
        distance_sums([reference], [policy])
    allocations = [event.cpu_memory_usage for event in profile.events()]
    # the sums of 100 blocks are 100 doubles
    assert 0 < max(allocations) <= 4 * 1000


def test_in_place_and_without_gradient():
    reference = torch.nn.Parameter(torch.zeros(2))
    memory = reference.data_ptr()
    ema_update_([reference], [torch.nn.Parameter(torch.ones(2))], decay=0.5)
    assert reference.tolist() == [0.5, 0.5]
    assert reference.data_ptr() == memory
    assert reference.is_leaf


def test_a_view_of_a_shard_is_updated():
    flat = torch.zeros(6)
    ema_update_([flat[2:4], flat[4:4]], [torch.ones(2), torch.ones(0)], decay=0.5)
    assert flat.tolist() == [0, 0, 0.5, 0.5, 0, 0]


@pytest.fixture
def mesh():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


def test_the_local_shard_of_a_dtensor_is_updated(mesh):
    reference = torch.nn.Parameter(distribute_tensor(torch.zeros(2, 3), mesh, [Shard(0)]))
    policy = torch.nn.Parameter(distribute_tensor(torch.ones(2, 3, dtype=torch.bfloat16), mesh, [Shard(0)]))
    ema_update_([reference], [policy], decay=0.5)
    assert isinstance(reference, DTensor)
    assert reference.to_local().tolist() == [[0.5] * 3] * 2
    assert distance_sums([reference], [policy]).tolist() == pytest.approx([1.5, 6.0])  # 6 * 0.5^2, 6 * 1


def test_distance_sums():
    reference = [torch.tensor([1.0, 2.0]), torch.tensor([[3.0]]), torch.zeros(0)]
    policy = [torch.tensor([1.0, 4.0]), torch.tensor([[0.0]], dtype=torch.bfloat16), torch.zeros(0)]
    difference, norm = distance_sums(reference, policy).tolist()
    assert difference == pytest.approx(13.0)  # 0 + 2^2 + 3^2
    assert norm == pytest.approx(17.0)  # 1 + 4^2 + 0


def test_distance_sums_add_up_over_shards():
    reference, policy = torch.randn(10), torch.randn(10)
    whole = distance_sums([reference], [policy])
    shards = distance_sums([reference[:7]], [policy[:7]]) + distance_sums([reference[7:]], [policy[7:]])
    assert torch.allclose(whole, shards)
    assert whole.dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_reference_must_be_float32_and_nothing_moves_if_it_is_not(dtype):
    first = torch.zeros(2)
    with pytest.raises(TypeError, match=rf"reference\[1\] is {dtype}.*float32"):
        ema_update_([first, torch.zeros(2, dtype=dtype)], [torch.ones(2)] * 2, decay=0.5)
    assert first.tolist() == [0, 0]


@pytest.mark.parametrize("update", [lambda ref, pol: ema_update_(ref, pol, 0.5), distance_sums])
def test_parameters_must_pair_up(update):
    with pytest.raises(ValueError, match=r"reference has 2 tensors and policy 1"):
        update([torch.zeros(2)] * 2, [torch.zeros(2)])
    with pytest.raises(ValueError, match=r"reference\[0\] has local shape \(2,\) and policy\[0\] \(1,\)"):
        update([torch.zeros(2)], [torch.zeros(1)])


@pytest.mark.parametrize("decay", [-0.1, 1.1, float("nan")])
def test_decay_must_be_a_weight(decay):
    with pytest.raises(ValueError, match="decay is"):
        ema_update_([torch.zeros(1)], [torch.zeros(1)], decay)
