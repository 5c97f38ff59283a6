"""Which token of a batch goes where when each group becomes one row: its prompt once, then its responses. Pure.

verl's batch without padding is flat: prompt and response of each row, one row behind the other. The packed row holds
every group's prompt once, with the group's responses behind it:

    flat      p0 p1 p2 a0 a1 | p0 p1 p2 b0 | q0 q1 c0          rows 0 and 1 are of one group
    packed    p0 p1 p2 a0 a1 b0 | q0 q1 c0
    segment   0  0  0  1  1  2  | 3  3  4

A token attends to what stands before it in its own segment, and a response to its group's whole prompt as well. So the
log-probability of a response's first token comes from the prompt's last one, which several responses share.

Shapes: `_N` rows (responses), `_T` packed tokens, `_F` flat tokens, `_S` scored tokens.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor


class Span(NamedTuple):
    """`[start, stop)` of the packed row."""

    start: int
    stop: int


class Group(NamedTuple):
    """One prompt of the packed row and the responses to it."""

    rows: tuple[int, ...]
    """Which rows of the batch these responses are."""
    prompt: Span
    responses: tuple[Span, ...]

    @property
    def answers(self) -> Span:
        """All responses together; they are neighbours."""
        return Span(self.prompt.stop, self.responses[-1].stop)


@dataclass(frozen=True)
class Layout:
    """A batch of rows as one packed row."""

    groups: tuple[Group, ...]
    flat_T: Tensor
    """For each packed token the flat token it is; of a shared prompt, the group's first row's."""
    packed_F: Tensor
    """For each flat token the packed token that computes it."""
    flat_tokens_N: tuple[int, ...]
    prompt_tokens_N: tuple[int, ...]

    def on(self, device: torch.device | str) -> Layout:
        """The same with its tensors there."""
        return replace(self, flat_T=self.flat_T.to(device), packed_F=self.packed_F.to(device))

    @property
    def segments(self) -> list[Span]:
        """Prompts and responses in their order: what is causal within itself."""
        return [span for group in self.groups for span in (group.prompt, *group.responses)]


class Scored(NamedTuple):
    """The response tokens whose log-probabilities are wanted, row after row."""

    hidden_S: Tensor
    """The packed token that predicts it."""
    label_S: Tensor
    """The flat token that it is."""
    place_S: Tensor
    """The flat place where verl looks for its log-probability: one before the token."""
    offsets: Tensor
    """Bounds of each row's among them, (N + 1,)."""
    row_S: Tensor
    """The row it belongs to."""


def pack(prompt_tokens_N: Sequence[int], response_tokens_N: Sequence[int], group_N: Sequence[Hashable]) -> Layout:
    """The packed row of a batch.

    Args:
        prompt_tokens_N, response_tokens_N: how long each row's prompt and response are; no prompt is empty.
        group_N: rows with the same value share their prompt, which must then be equally long. In any order.

    Raises:
        ValueError: lists of different lengths, an empty prompt, prompts of one group that differ in length.
    """
    if not len(prompt_tokens_N) == len(response_tokens_N) == len(group_N):
        raise ValueError(
            f"{len(prompt_tokens_N)} prompts, {len(response_tokens_N)} responses, {len(group_N)} groups:"
            " pass one of each per row"
        )
    flat_tokens_N = [prompt + response for prompt, response in zip(prompt_tokens_N, response_tokens_N, strict=True)]
    starts_N = [0, *accumulate(flat_tokens_N)]
    packed_F = torch.empty(starts_N[-1], dtype=torch.long)
    rows_of: dict[Hashable, list[int]] = {}
    for row, group in enumerate(group_N):
        rows_of.setdefault(group, []).append(row)

    groups, flat, stop = [], [], 0
    for rows in rows_of.values():
        lengths = {prompt_tokens_N[row] for row in rows}
        if len(lengths) > 1 or 0 in lengths:
            raise ValueError(f"the prompts of rows {rows} are {sorted(lengths)} tokens long: they must be one prompt")
        tokens = lengths.pop()
        prompt = Span(stop, stop + tokens)
        flat.append(torch.arange(tokens) + starts_N[rows[0]])
        stop, responses = prompt.stop, []
        for row in rows:
            span = Span(stop, stop + response_tokens_N[row])
            begin = starts_N[row] + tokens
            flat.append(torch.arange(begin, starts_N[row + 1]))
            packed_F[starts_N[row] : begin] = torch.arange(*prompt)
            packed_F[begin : starts_N[row + 1]] = torch.arange(*span)
            responses.append(span)
            stop = span.stop
        groups.append(Group(tuple(rows), prompt, tuple(responses)))
    flat_T = torch.cat(flat) if flat else torch.empty(0, dtype=torch.long)
    return Layout(tuple(groups), flat_T, packed_F, tuple(flat_tokens_N), tuple(prompt_tokens_N))


def scored(layout: Layout, wanted: Sequence[Tensor] | None = None) -> Scored:
    """Where the log-probabilities of the response tokens come from and go to.

    Args:
        wanted: for each row a bool per response token; None is all of them.
    """
    device = layout.flat_T.device
    labels, counts, start = [], [], 0
    for row, (tokens, prompt) in enumerate(zip(layout.flat_tokens_N, layout.prompt_tokens_N, strict=True)):
        response = torch.arange(start + prompt, start + tokens, device=device)
        labels.append(response if wanted is None else response[wanted[row].to(device).bool()])
        counts.append(len(labels[-1]))
        start += tokens
    label_S = torch.cat(labels)
    row_S = torch.repeat_interleave(torch.arange(len(counts), device=device), torch.tensor(counts, device=device))
    offsets = torch.tensor([0, *accumulate(counts)], device=device)
    return Scored(layout.packed_F[label_S - 1], label_S, label_S - 1, offsets, row_S)
