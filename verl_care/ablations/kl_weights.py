"""Which tokens the KL term sees, and how much of each: KL-EMA-HA and SepKL-EMA-HA. Pure.

Source: the ablations of arXiv 2506.16141. Of their code the release has only switches left, in comments of
`src/r1-v/src/open_r1/grpo.py`: `acc_kl_only` (accurate responses), `better_acc_kl_only` (above the mean) and
`kl_strategy=acc_thinking_answer_separate`.
Shapes: `_T` tokens of one response.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor


def kl_weights(
    lengths: Sequence[int],
    spans: Sequence[tuple[int, int] | None],
    selected: Sequence[bool],
    *,
    on: Literal["all", "accurate"] = "all",
    parts: Literal["joint", "separate"] = "joint",
) -> list[Tensor]:
    """One weight for each token's KL, so that the usual mean of the weighted KL is the variant's.

        KL of a response = 1/T * sum over tokens of w_t * k_t                    k_t: the token's KL estimate

        joint        w_t = 1                                     mean over the response
        separate     w_t = T/|R| before the answer               mean over the reasoning R
                     w_t = T/|A| in the answer                   + mean over the answer A
                     w_t = 0     behind it
        accurate     w_t = 0 everywhere unless the response is in S, the accurate ones

    Args:
        lengths: T, tokens of each response, at least 1.
        spans: the answer's tokens `[start, stop)`, or None for a response without one.
        selected: True for members of S (`ConsistencyBonus.selected_N`).
        on: `all` responses or the `accurate` ones only.
        parts: `joint` or `separate`. Means only what it says under `loss_agg_mode=seq-mean-token-mean`.

    Returns:
        A float32 (T,) for each response.

    Raises:
        ValueError: an unknown word, lists of different lengths, a span outside its response.

    Edge cases: without an answer the whole response is reasoning; without reasoning only the answer counts.

    What the paper leaves open, and is decided here:

    1. "High accuracy" is CARE's own S: accuracy above the threshold and at least the group's mean, which are the two
       switches together.
    2. The mean over responses divides by all of them, as that of the policy term does, not by those in S.
    3. The two parts are added with weight 1 each, so that on equal tokens the separate KL is twice the joint one;
       halve `kl_loss_coef` to compare at equal strength.
    4. The opening tag counts as reasoning, as in the release; the closing tag and the end of the turn belong to neither
       part. (There the reasoning ends one token later or earlier than here where a tokenizer cuts the tag differently.)
    """
    if on not in ("all", "accurate") or parts not in ("joint", "separate"):
        raise ValueError(f"on is {on!r} and parts {parts!r}: pass 'all' or 'accurate', and 'joint' or 'separate'")
    return [
        torch.zeros(length) if on == "accurate" and not chosen else _one(length, span, parts)
        for length, span, chosen in zip(lengths, spans, selected, strict=True)
    ]


def _one(length: int, span: tuple[int, int] | None, parts: str) -> Tensor:
    if span is not None and not 0 <= span[0] < span[1] <= length:
        raise ValueError(f"an answer at {span} does not lie within a response of {length} tokens")
    weight_T = torch.ones(length)
    if parts == "separate" and span is not None:
        start, stop = span
        weight_T[:start] = length / max(start, 1)
        weight_T[start:stop] = length / (stop - start)
        weight_T[stop:] = 0
    return weight_T
