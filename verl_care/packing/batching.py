"""Groups kept together: over ranks, and over the micro-batches of a rank.

A group that is cut is no error, its parts each compute the prompt. So groups are cut where a budget or equal shares of
the ranks need it, and nowhere else.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from tensordict import TensorDict


class Part(NamedTuple):
    """Rows of one group that are computed together."""

    rows: tuple[int, ...]
    tokens: int


def order_by_groups(
    group_N: Sequence[Hashable], prompt_tokens_N: Sequence[int], response_tokens_N: Sequence[int], ranks: int
) -> list[list[int]]:
    """The rows of each rank: groups stand together, and ranks compute about the same number of packed tokens. Pure.

    Args:
        group_N: the group of each row; in any order.
        ranks: how many; they divide the rows, and each gets equally many.

    Returns:
        Row numbers, a list per rank. The costliest group goes to the rank with least to do among those with room for
        it. A group fits nowhere only if sizes differ, or ranks do not divide the groups; then it fills what is left.
    """
    rows_of: dict[Hashable, list[int]] = {}
    for row, group in enumerate(group_N):
        rows_of.setdefault(group, []).append(row)

    def tokens(rows: Sequence[int]) -> int:
        return prompt_tokens_N[rows[0]] + sum(response_tokens_N[row] for row in rows)

    shares: list[list[int]] = [[] for _ in range(ranks)]
    cost, room = [0] * ranks, len(group_N) // ranks
    waiting: list[list[int]] = []
    for rows in sorted(rows_of.values(), key=tokens, reverse=True):
        fits = [rank for rank in range(ranks) if len(shares[rank]) + len(rows) <= room]
        if not fits:
            waiting.append(rows)
            continue
        rank = min(fits, key=lambda rank: cost[rank])
        shares[rank] += rows
        cost[rank] += tokens(rows)
    for rows in waiting:
        while rows:
            rank = max(range(ranks), key=lambda rank: room - len(shares[rank]))
            free = room - len(shares[rank])
            shares[rank] += rows[:free]
            rows = rows[free:]
    return shares


def parts_within(
    prompt_tokens_N: Sequence[int], response_tokens_N: Sequence[int], group_N: Sequence[Hashable], budget: int
) -> list[Part]:
    """The groups, cut where prompt and responses together are more than the budget. Pure.

    Raises:
        ValueError: a single response with its prompt is more.
    """
    parts: list[Part] = []
    open_part: dict[Hashable, int] = {}
    for row, (prompt, response, group) in enumerate(zip(prompt_tokens_N, response_tokens_N, group_N, strict=True)):
        if prompt + response > budget:
            raise ValueError(
                f"a prompt of {prompt} tokens with its response of {response} is more than the {budget} of a"
                " micro-batch: raise actor_rollout_ref.actor.ppo_max_token_len_per_gpu (or rollout's and ref's"
                " log_prob_max_token_len_per_gpu), or lower data.max_prompt_length and data.max_response_length"
            )
        at = open_part.get(group)
        if at is not None and parts[at].tokens + response <= budget:
            parts[at] = Part((*parts[at].rows, row), parts[at].tokens + response)
        else:
            open_part[group] = len(parts)
            parts.append(Part((row,), prompt + response))
    return parts


def micro_batches_of(parts: Sequence[Part], budget: int) -> list[list[int]]:
    """Rows of each micro-batch: parts put together up to the budget, the large ones first. Pure."""
    batches: list[tuple[int, list[int]]] = []
    for part in sorted(parts, key=lambda part: -part.tokens):
        for number, (tokens, rows) in enumerate(batches):
            if tokens + part.tokens <= budget:
                batches[number] = (tokens + part.tokens, [*rows, *part.rows])
                break
        else:
            batches.append((part.tokens, list(part.rows)))
    return [rows for _, rows in batches]


def cut_into(batches: Sequence[Sequence[int]], number: int) -> list[list[int]]:
    """As many micro-batches as another rank has: those with the most rows are halved. Pure."""
    heap = [(-len(rows), order, list(rows)) for order, rows in enumerate(batches)]
    heapq.heapify(heap)
    while len(heap) < number:
        _, order, rows = heapq.heappop(heap)
        if len(rows) < 2:
            raise ValueError(f"{number} micro-batches are wanted of {sum(len(rows) for rows in batches)} rows")
        half = len(rows) // 2
        for piece in (rows[:half], rows[half:]):
            heapq.heappush(heap, (-len(piece), order + len(heap) + number, piece))
    return [rows for _, _, rows in sorted(heap, key=lambda item: item[1])]


def prepare_micro_batches(data: TensorDict, dp_group: Any = None) -> tuple[list[TensorDict], list[list[int]]]:
    """verl's `prepare_micro_batches`, whole groups at a time.

    `max_token_len_per_gpu` counts packed tokens, a shared prompt once; without dynamic batch sizes,
    `micro_batch_size_per_gpu` counts responses. Every rank gets the same number of micro-batches.
    """
    import torch
    import torch.distributed as dist
    from verl.utils import tensordict_utils as tu
    from verl.utils.device import get_device_name

    from verl_care.packing.rows import group_keys, lengths

    prompts, responses = lengths(data)
    if tu.get_non_tensor_data(data, "use_dynamic_bsz", True):
        budget = int(data["max_token_len_per_gpu"])
    else:
        budget, prompts, responses = int(data["micro_batch_size_per_gpu"]), [0] * len(prompts), [1] * len(prompts)
        # the rows come in another order, and verl puts results back only where it thinks that it chose the order
        tu.assign_non_tensor(data, use_dynamic_bsz=True)
    batches = micro_batches_of(parts_within(prompts, responses, group_keys(data), budget), budget)
    if dist.is_initialized():
        number = torch.tensor([len(batches)], device=get_device_name())
        dist.all_reduce(number, op=dist.ReduceOp.MAX, group=dp_group)
        batches = cut_into(batches, int(number.item()))
    return [tu.index_select_tensor_dict(data, rows) for rows in batches], batches
