"""Several continuations of one prompt in one row: the prompt is computed once, continuations do not see each other.

A row is `prompt | branch 1 | branch 2 | ...`; every branch attends to the prompt and to itself, and its positions
start right behind the prompt, so its log-probabilities are those of the sequence `prompt + branch`.

Shapes: R rows, L tokens a row, T scored tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

PADDING = -1


@dataclass
class Packed:
    tokens_RL: Tensor
    positions_3RL: Tensor
    visible_R1LL: Tensor  # bool: may query l look at key m
    row_T: Tensor  # the scored tokens: in which row,
    source_T: Tensor  # which position predicts them,
    target_T: Tensor  # what they are,
    weight_T: Tensor  # and how much they count


def pack(
    prompts: Sequence[Sequence[int]],
    branches: Sequence[Sequence[Sequence[int]]],
    weights: Sequence[Sequence[Sequence[float]]],
    prompt_positions: Sequence[Tensor] | None = None,
    pad: int = 0,
) -> Packed:
    """`prompt_positions[r]`: (3, len(prompt)), M-RoPE; None: the prompts are text alone."""
    lengths = [len(p) + sum(map(len, b)) for p, b in zip(prompts, branches, strict=True)]
    rows, longest = len(prompts), max(lengths)
    tokens = torch.full((rows, longest), pad)
    positions = torch.zeros(3, rows, longest, dtype=torch.long)
    segment = torch.full((rows, longest), PADDING)
    row_of, source, target, weight = [], [], [], []
    for r, prompt in enumerate(prompts):
        end = len(prompt)
        tokens[r, :end] = torch.tensor(prompt)
        positions[:, r, :end] = torch.arange(end) if prompt_positions is None else prompt_positions[r]
        segment[r, :end] = 0
        after = int(positions[:, r, :end].max()) + 1
        for number, (branch, branch_weights) in enumerate(zip(branches[r], weights[r], strict=True), start=1):
            stop = end + len(branch)
            tokens[r, end:stop] = torch.tensor(branch)
            positions[:, r, end:stop] = after + torch.arange(len(branch))
            segment[r, end:stop] = number
            for i, (token, w) in enumerate(zip(branch, branch_weights, strict=True)):
                if w:
                    row_of.append(r)
                    source.append(len(prompt) - 1 if i == 0 else end + i - 1)
                    target.append(token)
                    weight.append(w)
            end = stop
    causal = torch.ones(longest, longest, dtype=torch.bool).tril()
    same = segment[:, :, None] == segment[:, None, :]
    visible = causal & (same | (segment == 0)[:, None, :])
    return Packed(
        tokens_RL=tokens,
        positions_3RL=positions,
        visible_R1LL=visible[:, None],
        row_T=torch.tensor(row_of),
        source_T=torch.tensor(source),
        target_T=torch.tensor(target),
        weight_T=torch.tensor(weight),
    )
