"""The two parts of packed attention give what one softmax under the mask gives, values and gradients."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from tests.unit.masked_attention import MASKED, mask_of
from verl_care.packing.attention import PLAN, SPLIT, Plan, split_attention
from verl_care.packing.layout import pack

SCALE = 0.25
groups = st.lists(
    st.tuples(st.integers(1, 40), st.lists(st.integers(0, 60), min_size=1, max_size=8)), min_size=1, max_size=3
)


def layout_of(shape):
    """(prompt, responses) of each group -> the packed row."""
    rows = [(prompt, response, group) for group, (prompt, responses) in enumerate(shape) for response in responses]
    return pack(*zip(*rows, strict=True))


def masked(query_THD, key_THD, value_THD, layout):
    scores = torch.einsum("qhd,khd->hqk", query_THD, key_THD) * SCALE
    weights = scores.masked_fill(~mask_of(layout), -torch.inf).softmax(-1)
    return torch.einsum("hqk,khd->qhd", weights, value_THD)


@settings(max_examples=60, deadline=None)
@given(shape=groups, seed=st.integers(0, 2**31))
def test_values_and_gradients(shape, seed):
    layout = layout_of(shape)
    generator = torch.Generator().manual_seed(seed)
    tokens = len(layout.flat_T)
    parts = [torch.randn(tokens, 2, 16, dtype=torch.float64, generator=generator).requires_grad_() for _ in range(3)]
    weight = torch.randn(tokens, 2, 16, dtype=torch.float64, generator=generator)
    ours = split_attention(*parts, Plan.of(layout), SCALE)
    truth = masked(*parts, layout)
    torch.testing.assert_close(ours, truth, rtol=0, atol=1e-12)
    gradients = [torch.autograd.grad((out * weight).sum(), parts) for out in (ours, truth)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-11)


def test_by_hand():
    # One head of size 1, prompt p with key 0, response a with key ln 3, query of a 1, scale 1: scores 0 and ln 3, so
    # weights 1/4 and 3/4; values 8 and 4 give 2 + 3 = 5. Response b, key 0 and query 1: weights 1/2 and 1/2 on p and
    # itself, values 8 and 2 give 5 as well; were it to see a, the weights would be 1/5, 3/5 and 1/5.
    layout = pack([1, 1], [1, 1], ["p", "p"])
    query, key, value = (
        torch.tensor(numbers, dtype=torch.float64).reshape(3, 1, 1)
        for numbers in ([1.0, 1.0, 1.0], [0.0, math.log(3), 0.0], [8.0, 4.0, 2.0])
    )
    out = split_attention(query, key, value, Plan.of(layout), 1.0)
    assert out.flatten().tolist() == pytest.approx([8.0, 5.0, 5.0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_two_names_in_transformers_agree(dtype):
    """As a layer calls them: heads first, fewer heads of keys and values, no mask."""
    layout = layout_of([(7, [3, 5, 1]), (2, [4])])
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(1, 4, len(layout.flat_T), 16, generator=generator).to(dtype)
    key, value = (torch.randn(1, 2, len(layout.flat_T), 16, generator=generator).to(dtype) for _ in range(2))
    kwargs = {"scaling": SCALE, "dropout": 0.0, PLAN: Plan.of(layout)}
    ours, theirs = (
        ALL_ATTENTION_FUNCTIONS[name](torch.nn.Identity(), query, key, value, None, **kwargs)[0]
        for name in (SPLIT, MASKED)
    )
    assert ours.shape == theirs.shape == (1, len(layout.flat_T), 4, 16)
    assert ours.dtype == dtype
    torch.testing.assert_close(ours, theirs, rtol=0, atol={torch.float32: 1e-6, torch.bfloat16: 0.02}[dtype])


def test_nothing_of_the_size_of_the_row_squared_is_kept():
    layout = layout_of([(300, [200] * 8)])  # 1,900 tokens
    parts = [torch.randn(1900, 1, 16, requires_grad=True) for _ in range(3)]
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda t: t):
        split_attention(*parts, Plan.of(layout), SCALE)
    assert max(kept) == 1900 * 16


class VarlenFlash:
    """What torch's two variable-length kernels compute, from their definition; they themselves need a GPU."""

    def __init__(self):
        self.calls = 0

    def _flash_attention_forward(self, q, k, v, bounds_q, bounds_k, max_q, max_k, dropout, causal, debug, *, scale):
        self.calls += 1
        assert (dropout, debug) == (0.0, False)
        assert bounds_q.dtype == bounds_k.dtype == torch.int32
        assert (int(bounds_q.diff().max()), int(bounds_k.diff().max())) == (max_q, max_k)
        scores = self._scores(q, k, bounds_q, bounds_k, causal, scale)
        lse = scores.logsumexp(-1)
        weights = (scores - lse.unsqueeze(-1)).exp()
        return torch.einsum("hqk,khd->qhd", weights, self._repeat(v, q)), lse, torch.zeros(2), torch.zeros(()), None

    def _flash_attention_backward(
        self, grad, q, k, v, out, lse, bounds_q, bounds_k, max_q, max_k, dropout, causal, seed, unused, *, scale
    ):
        self.calls += 1
        assert lse.is_contiguous()
        weights = (self._scores(q, k, bounds_q, bounds_k, causal, scale) - lse.unsqueeze(-1)).exp()
        delta = (grad * out).sum(-1).T.unsqueeze(-1)
        d_scores = weights * (torch.einsum("qhd,khd->hqk", grad, self._repeat(v, q)) - delta) * scale
        d_q = torch.einsum("hqk,khd->qhd", d_scores, self._repeat(k, q))
        d_k, d_v = torch.einsum("hqk,qhd->khd", d_scores, q), torch.einsum("hqk,qhd->khd", weights, grad)
        return d_q, *(d.unflatten(1, (k.size(1), -1)).sum(2) for d in (d_k, d_v))

    def _repeat(self, tensor_THD, like_THD):
        return tensor_THD.repeat_interleave(like_THD.size(1) // tensor_THD.size(1), dim=1)

    def _scores(self, q, k, bounds_q, bounds_k, causal, scale):
        seen = torch.zeros(q.size(0), k.size(0), dtype=torch.bool)
        for (a, b), (c, d) in zip(pairwise(bounds_q.tolist()), pairwise(bounds_k.tolist()), strict=True):
            seen[a:b, c:d] = torch.ones(b - a, d - c).tril().bool() if causal else True
        return torch.einsum("qhd,khd->hqk", q, self._repeat(k, q)).masked_fill(~seen, -torch.inf) * scale


def test_two_calls_on_a_gpu(monkeypatch):
    """The same through the GPU's kernels as they are documented: two calls forward, two back, fewer key heads."""
    from verl_care.packing import attention

    kernels = VarlenFlash()
    monkeypatch.setattr(attention, "_on_gpu", lambda tensor: True)
    monkeypatch.setattr(attention, "_aten", kernels)
    layout = layout_of([(7, [3, 5, 1]), (2, [4]), (4, [6, 6])])
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(1, 4, len(layout.flat_T), 16, dtype=torch.float64, generator=generator).requires_grad_()
    key, value = (
        torch.randn(1, 2, len(layout.flat_T), 16, dtype=torch.float64, generator=generator).requires_grad_()
        for _ in range(2)
    )
    kwargs = {"scaling": SCALE, "dropout": 0.0, PLAN: Plan.of(layout)}
    results = []
    for name in (SPLIT, MASKED):
        out = ALL_ATTENTION_FUNCTIONS[name](torch.nn.Identity(), query, key, value, None, **kwargs)[0]
        results.append((out, *torch.autograd.grad(out.square().sum(), (query, key, value))))
    torch.testing.assert_close(*results, rtol=0, atol=1e-12)
    assert kernels.calls == 4
