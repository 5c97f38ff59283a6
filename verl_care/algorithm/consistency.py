"""The consistency bonus of GRPO-CARE: which correct responses does the reference find their answer likely for? Pure.

Source: paper (arXiv 2506.16141), Algorithm 1; `compute_loss` in `trainer/grpo_trainer_ref_ema.py` of the release.
Shapes: `_N` responses of a batch, `_T` response tokens, `_P` prompts (groups) of the batch.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from verl_care.algorithm.advantage import GroupIds, group_index, group_sum

# Eight times 0.95 averages above 0.95 in float32; without a tolerance nobody at the cap would reach the mean.
TOLERANCE = 1e-6


class ConsistencyBonus(NamedTuple):
    bonus_N: Tensor
    """Added to accuracy + format, in the dtype of the accuracy, float32 at least."""
    selected_N: Tensor
    """Bool: members of S, the accurate responses that are compared with each other."""
    threshold_N: Tensor
    """m, the mean capped likelihood over S of the response's group; NaN where S is empty."""


@torch.no_grad()
def answer_likelihood(
    ref_log_prob_NT: Tensor, answer_mask_NT: Tensor, mean: Literal["geometric", "arithmetic"] = "geometric"
) -> Tensor:
    """How likely the reference finds the answer of a response, given the video, the question and the reasoning.

        geometric     p = exp( mean over answer tokens of log pi_ref(token | everything before it) )
        arithmetic    p = mean over answer tokens of pi_ref(token | everything before it)

    The released code takes the geometric mean, Algorithm 1 of the paper the arithmetic one. They agree on answers of
    one token, as single letters are, and on no others.

    Args:
        ref_log_prob_NT: natural log-probabilities under the reference, (N, T). Anything may stand outside the mask.
        answer_mask_NT: bool or 0/1, (N, T): the answer's tokens, see `verl_care.algorithm.spans`.
        mean: which of the two.

    Returns:
        p, (N,), without gradient, float32 at least; NaN where the mask is empty.

    Raises:
        ValueError: unknown `mean`, shapes that do not match, NaN among the log-probabilities of an answer (a broken
            reference would otherwise pass for responses without an answer, and the run for GRPO).

    Deviation from the release: it divides by the number of tokens + 1e-6, so that an empty mask has likelihood 1.
    """
    if mean not in ("geometric", "arithmetic"):
        raise ValueError(f"mean is {mean!r}, which is no way to average: pass 'geometric' or 'arithmetic'")
    if ref_log_prob_NT.ndim != 2 or ref_log_prob_NT.shape != answer_mask_NT.shape:
        raise ValueError(
            f"ref_log_prob_NT has shape {tuple(ref_log_prob_NT.shape)} and answer_mask_NT "
            f"{tuple(answer_mask_NT.shape)}, but both must be (N, T): pad them to one length"
        )
    mask_NT = answer_mask_NT.bool()
    tokens_N = mask_NT.sum(dim=1)
    value_NT = ref_log_prob_NT if mean == "geometric" else ref_log_prob_NT.exp()
    mean_N = torch.where(mask_NT, value_NT, 0).sum(dim=1, dtype=torch.float64) / tokens_N
    broken_N = mean_N.isnan() & (tokens_N > 0)
    if broken_N.any():
        raise ValueError(
            f"ref_log_prob_NT is NaN at answer tokens of {int(broken_N.sum())} of {len(broken_N)} responses: "
            "the reference's weights or its forward pass are broken"
        )
    likelihood_N = mean_N.exp() if mean == "geometric" else mean_N
    return likelihood_N.to(torch.promote_types(ref_log_prob_NT.dtype, torch.float32))


@torch.no_grad()
def select(accuracy_N: Tensor, answered_N: Tensor, group_N: GroupIds, accuracy_threshold: float = 0.1) -> Tensor:
    """S, the responses whose likelihoods are compared: bool, (N,). Decided before any likelihood is known.

    S = { answered  and  a > accuracy_threshold  and  a >= mean a }        mean over all responses of the group
    """
    group_index_N, size_P = group_index(group_N, like_N=accuracy_N)
    a_N = accuracy_N.double()
    mean_P = group_sum(a_N, group_index_N, size_P) / size_P
    return answered_N & (a_N > accuracy_threshold + TOLERANCE) & (a_N >= mean_P[group_index_N] - TOLERANCE)


@torch.no_grad()
def needs_likelihood(
    accuracy_N: Tensor,
    answered_N: Tensor,
    group_N: GroupIds,
    *,
    bonus: Literal["hard", "dense", "none"] = "hard",
    accuracy_threshold: float = 0.1,
) -> Tensor:
    """The responses whose likelihood can change a bonus or a threshold: bool, (N,).

    S for all three; with "dense" every answered response with an accuracy above 0 as well. With NaN for the likelihood
    of all others `consistency_bonus` returns the same as with their true one.
    """
    needed_N = select(accuracy_N, answered_N, group_N, accuracy_threshold)
    return needed_N | (answered_N & (accuracy_N > 0)) if bonus == "dense" else needed_N


@torch.no_grad()
def consistency_bonus(
    accuracy_N: Tensor,
    likelihood_N: Tensor,
    group_N: GroupIds,
    *,
    answered_N: Tensor | None = None,
    bonus: Literal["hard", "dense", "none"] = "hard",
    bonus_coefficient: float = 0.5,
    confidence_upper_bound: float = 0.95,
    consistency_margin: float = 0.0,
    accuracy_threshold: float = 0.1,
) -> ConsistencyBonus:
    """Reward, among the accurate responses of each prompt, those whose answer follows from their reasoning.

        S = { a > accuracy_threshold  and  a >= mean a }        mean over all responses of the group
        q = min(p, confidence_upper_bound)
        m = mean of q over S
        hard     c = bonus_coefficient * a   for members of S with q >= m - consistency_margin, else 0
        dense    c = bonus_coefficient * a * p   for every response with a likelihood (the paper's DenseCons)
        none     c = 0

    `selected_N` is the same for all three, so that runs can be compared, and so is `threshold_N` where likelihoods are
    known; it is NaN in a run without a reference.

    Args:
        accuracy_N: a in [0, 1].
        likelihood_N: p from `answer_likelihood`, NaN where there is none. Such a response earns nothing.
        group_N: the prompt of each response. Groups may be interleaved and of any size.
        answered_N: bool, which responses have an answer, for runs without likelihoods; one without is never in S. None:
            those with a likelihood.
        bonus: "hard" is the method; the others are its ablations.
        bonus_coefficient: 0.5 in all published runs.
        confidence_upper_bound: cap of the likelihood, in (0, 1]: above it, more certain is not better. 1 is no cap.
        consistency_margin: how far below the mean still earns the bonus, in units of probability.
        accuracy_threshold: a response at or below it is wrong.

    Raises:
        ValueError: shapes that do not match, an unknown `bonus`, a number out of its range, a member of S without a
            likelihood where the bonus depends on it.

    Edge cases: with S empty nobody in the group gets a bonus; a lone member of S always does. Where accuracies are 0
    or 1, formats equal, and all of S earns the bonus, it only stretches the rewards, and the advantages stay GRPO's.

    Deviations from the release:

    1. Comparisons have a tolerance of 1e-6 and sums are float64, so that rounding does not decide who is at the mean.
    2. A response without an answer span is not in S (the release gives it likelihood 1).
    3. The paper writes `a >= max(mean a, 0.1)`; as in the released code, 0.1 itself is not enough.
    """
    _check_arguments(bonus, bonus_coefficient, confidence_upper_bound, consistency_margin, accuracy_threshold)
    _check_responses(accuracy_N, likelihood_N)
    group_index_N, size_P = group_index(group_N, like_N=accuracy_N)
    a_N, p_N = accuracy_N.double(), likelihood_N.double()
    known_N = ~p_N.isnan()

    selected_N = select(accuracy_N, known_N if answered_N is None else answered_N, group_N, accuracy_threshold)
    if bonus != "none" and (selected_N & ~known_N).any():
        raise ValueError("likelihood_N is NaN for an accurate response with an answer: score all of `needs_likelihood`")

    q_N = p_N.clamp(max=confidence_upper_bound)
    selected_P = group_sum(selected_N.double(), group_index_N, size_P)
    threshold_P = group_sum(torch.where(selected_N, q_N, 0), group_index_N, size_P) / selected_P
    threshold_N = threshold_P[group_index_N]

    if bonus == "hard":
        earned_N = selected_N & (q_N >= threshold_N - consistency_margin - TOLERANCE)
        bonus_N = torch.where(earned_N, bonus_coefficient * a_N, 0)
    elif bonus == "dense":
        bonus_N = torch.where(known_N, bonus_coefficient * a_N * p_N, 0)
    else:
        bonus_N = torch.zeros_like(a_N)

    dtype = torch.promote_types(accuracy_N.dtype, torch.float32)
    return ConsistencyBonus(bonus_N.to(dtype), selected_N, threshold_N.to(dtype))


def _check_arguments(bonus: str, coefficient: float, upper_bound: float, margin: float, threshold: float) -> None:
    if bonus not in ("hard", "dense", "none"):
        raise ValueError(f"bonus is {bonus!r}, which is no bonus: pass 'hard', 'dense' or 'none'")
    if not coefficient >= 0:
        raise ValueError(f"bonus_coefficient is {coefficient}, which would punish consistency: pass a number >= 0")
    if not 0 < upper_bound <= 1:
        raise ValueError(f"confidence_upper_bound is {upper_bound}, no probability in (0, 1]: pass 1.0 for no cap")
    if not margin >= 0:
        raise ValueError(f"consistency_margin is {margin}; below 0 the mean itself would not earn it: pass >= 0")
    if not 0 <= threshold <= 1:
        raise ValueError(f"accuracy_threshold is {threshold}, outside the range [0, 1] of accuracies")


def _check_responses(accuracy_N: Tensor, likelihood_N: Tensor) -> None:
    if accuracy_N.ndim != 1 or accuracy_N.shape != likelihood_N.shape:
        raise ValueError(
            f"accuracy_N has shape {tuple(accuracy_N.shape)} and likelihood_N {tuple(likelihood_N.shape)}, "
            "but both must be (N,): pass one number per response"
        )
    outside_N = ~((accuracy_N >= 0) & (accuracy_N <= 1))
    if outside_N.any():
        raise ValueError(
            f"accuracy_N holds {accuracy_N[outside_N][0].item()}, but accuracies lie in [0, 1]: "
            "pass the accuracy alone, without format reward or bonus"
        )
