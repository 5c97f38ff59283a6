"""Attention over a packed row: exact, and without a mask of the size row x row.

A response attends to its group's prompt and to itself. Both parts are attention over stretches of the row, for which
fast kernels exist, and softmax over their union follows from the two log-sum-exps:

    o_1, l_1    every prompt and every response, causal within itself
    o_2, l_2    every response over its group's prompt
    l           = log(exp l_1 + exp l_2)
    o           = o_1 exp(l_1 - l) + o_2 exp(l_2 - l)                         for responses; prompts keep o_1

The gradient needs no formula of its own: a kernel's backward pass computes exp(score - l) and (dO . o) from the `o`
and `l` it is given. So each part's kernel, given the merged ones, returns its share of dQ, dK and dV; these add up.

Where the kernels come from: on a GPU torch's variable-length flash attention (two calls a layer, half precision), on a
CPU torch's flash attention, a call for each stretch.

Shapes: `_THD` packed tokens, heads, head size; `_HT` a number for each head and token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import repeat_kv

from verl_care.packing.layout import Layout, Span

SPLIT = "care_packed"
"""Its name in transformers' AttentionInterface."""
PLAN = "packed_plan"
"""The keyword by which a plan reaches every layer."""

_aten: Any = torch.ops.aten


@dataclass(frozen=True)
class Stretches:
    """Neighbouring stretches of a sequence, from its first token to its last."""

    spans: tuple[Span, ...]
    bounds: Tensor
    """Where they begin and end, int32."""
    longest: int

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device) -> Stretches:
        bounds = [0, *accumulate(lengths)]
        spans = tuple(Span(*pair) for pair in pairwise(bounds))
        return cls(spans, torch.tensor(bounds, dtype=torch.int32, device=device), max(lengths, default=0))


@dataclass(frozen=True)
class Plan:
    """What every layer needs to know of a layout; made once for a forward pass."""

    layout: Layout
    segments: Stretches
    """Prompts and responses, in the row."""
    answers: Stretches
    """Each group's responses, in the sequence of all responses."""
    prompts: Stretches
    """Each group's prompt, in the sequence of all prompts."""
    answer_tokens: Tensor
    prompt_tokens: Tensor
    """Where those sequences are in the row."""

    @classmethod
    def of(cls, layout: Layout) -> Plan:
        device = layout.flat_T.device

        def stretches(spans: Sequence[Span]) -> Stretches:
            return Stretches.of([span.stop - span.start for span in spans], device)

        def tokens(spans: Sequence[Span]) -> Tensor:
            return torch.cat([torch.arange(*span, device=device) for span in spans])

        answers = [group.answers for group in layout.groups]
        prompts = [group.prompt for group in layout.groups]
        return cls(
            layout, stretches(layout.segments), stretches(answers), stretches(prompts), tokens(answers), tokens(prompts)
        )


def split_attention(query_THD: Tensor, key_THD: Tensor, value_THD: Tensor, plan: Plan, scale: float) -> Tensor:
    """Attention of a packed row by the two parts above; differentiable in all three tensors.

    On a CPU all three have the same heads; on a GPU keys and values may have fewer, by a whole factor.
    """
    return _SplitAttention.apply(query_THD, key_THD, value_THD, plan, scale)  # type: ignore[return-value]


class _SplitAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, plan: Plan, scale: float) -> Tensor:
        answers, prompts = plan.answer_tokens, plan.prompt_tokens
        out, lse, state_1 = _forward(query, key, value, plan.segments, plan.segments, True, scale)
        over, over_lse, state_2 = _forward(
            query[answers], key[prompts], value[prompts], plan.answers, plan.prompts, False, scale
        )
        own_lse = lse[:, answers]
        merged_lse = torch.logaddexp(own_lse, over_lse)
        weight_own, weight_over = ((part - merged_lse).exp().T.unsqueeze(-1) for part in (own_lse, over_lse))
        out[answers] = (out[answers] * weight_own + over * weight_over).to(out.dtype)
        lse[:, answers] = merged_lse
        ctx.save_for_backward(query, key, value, out, lse, *state_1, *state_2)
        ctx.plan, ctx.scale, ctx.states = plan, scale, len(state_1)
        return out

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        query, key, value, out, lse, *states = ctx.saved_tensors
        plan, scale, state_1, state_2 = ctx.plan, ctx.scale, states[: ctx.states], states[ctx.states :]
        answers, prompts = plan.answer_tokens, plan.prompt_tokens
        grad = grad_outputs[0].contiguous()
        d_query, d_key, d_value = _backward(
            grad, query, key, value, out, lse, plan.segments, plan.segments, True, scale, state_1
        )
        over = _backward(
            grad[answers], query[answers], key[prompts], value[prompts], out[answers], lse[:, answers].contiguous(),
            plan.answers, plan.prompts, False, scale, state_2,
        )  # fmt: skip
        for total, places, share in zip((d_query, d_key, d_value), (answers, prompts, prompts), over, strict=True):
            total.index_add_(0, places, share)
        return d_query, d_key, d_value, None, None


# ---------------------------------------------------------------- kernels: stretch i of the queries over i of the keys


def _forward(
    query: Tensor, key: Tensor, value: Tensor, q: Stretches, k: Stretches, causal: bool, scale: float
) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """Output (tokens, heads, size), its log-sum-exp (heads, tokens), and what else the backward pass wants."""
    if _on_gpu(query):
        out, lse, *state = _aten._flash_attention_forward(
            query, key, value, q.bounds, k.bounds, q.longest, k.longest, 0.0, causal, False, scale=scale
        )
        return out, lse, tuple(state[:2])
    out = torch.empty_like(query)
    lse = torch.empty(query.size(1), query.size(0), dtype=torch.promote_types(query.dtype, torch.float32))
    for rows, columns in zip(q.spans, k.spans, strict=True):
        if rows.stop > rows.start:
            parts = _heads_first(query, rows), _heads_first(key, columns), _heads_first(value, columns)
            part, part_lse = _aten._scaled_dot_product_flash_attention_for_cpu(*parts, 0.0, causal, scale=scale)
            out[slice(*rows)] = part[0].transpose(0, 1)
            lse[:, slice(*rows)] = part_lse[0]
    return out, lse, ()


def _backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, lse: Tensor,
    q: Stretches, k: Stretches, causal: bool, scale: float, state: Sequence[Tensor],
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    if _on_gpu(query):
        return _aten._flash_attention_backward(
            grad,
            query,
            key,
            value,
            out,
            lse,
            q.bounds,
            k.bounds,
            q.longest,
            k.longest,
            0.0,
            causal,
            *state,
            scale=scale,
        )
    grads = torch.zeros_like(query), torch.zeros_like(key), torch.zeros_like(value)
    for rows, columns in zip(q.spans, k.spans, strict=True):
        if rows.stop > rows.start:
            spans = (rows, rows, columns, columns, rows)
            parts = [
                _heads_first(tensor, span) for tensor, span in zip((grad, query, key, value, out), spans, strict=True)
            ]
            part_lse = lse[:, slice(*rows)].T.contiguous().T.unsqueeze(0)  # the strides the kernel itself returns
            shares = _aten._scaled_dot_product_flash_attention_for_cpu_backward(
                *parts, part_lse, 0.0, causal, scale=scale
            )
            for total, span, share in zip(grads, (rows, columns, columns), shares, strict=True):
                total[slice(*span)] = share[0].transpose(0, 1)
    return grads


def _on_gpu(tensor: Tensor) -> bool:
    return tensor.is_cuda


def _heads_first(tensor_THD: Tensor, span: Span) -> Tensor:
    return tensor_THD[slice(*span)].transpose(0, 1).unsqueeze(0)


# ---------------------------------------------------------------- as transformers calls it


def _split_forward(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    query, key, value = _in_one_type(query, key, value)
    if not _on_gpu(query):
        groups = query.size(1) // key.size(1)
        key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    query_THD, key_THD, value_THD = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    return split_attention(query_THD, key_THD, value_THD, kwargs[PLAN], _scale(query, kwargs)).unsqueeze(0), None


def _in_one_type(query: Tensor, *others: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rotary embeddings may have made queries and keys wider than values; autocast knows the aten kernels not."""
    kind = query.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else others[-1].dtype
    return tuple(tensor.to(dtype) for tensor in (query, *others))  # type: ignore[return-value]


def _scale(query: Tensor, kwargs: dict[str, Any]) -> float:
    scaling = kwargs.get("scaling")
    return float(scaling) if scaling is not None else query.size(-1) ** -0.5


AttentionInterface.register(SPLIT, _split_forward)
