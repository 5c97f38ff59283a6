"""k samples of a question: mean@k, maj@k, pass@k.

Shapes: `_N` responses, `_Q` questions.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np


def question_means(score_N: np.ndarray, question_N: np.ndarray) -> np.ndarray:
    """mean@k: the mean score of each question's samples, in the order of the questions' numbers."""
    _, inverse_N = np.unique(question_N, return_inverse=True)
    return np.bincount(inverse_N, weights=score_N) / np.bincount(inverse_N)


def best_weights(samples: int, k: int) -> np.ndarray:
    """Weight of each sample's score, sorted from low to high, in the expected best of k drawn without replacement.

    w_i = C(i - 1, k - 1) / C(n, k): the i-th is the best of those draws whose other k - 1 lie below it. By recursion
    from w_n = k / n, w_(i-1) = w_i (i - k) / (i - 1), no number overflows.
    """
    weights = np.zeros(samples)
    weight = k / samples
    for place in range(samples, k - 1, -1):
        weights[place - 1] = weight
        if place > 1:
            weight *= (place - k) / (place - 1)
    return weights


def best_of(score_N: np.ndarray, question_N: np.ndarray, k: int) -> np.ndarray:
    """pass@k of each question that has at least k samples: the unbiased estimate of the best score among k.

    For scores of 0 and 1 with c of n right it is 1 - C(n - c, k) / C(n, k) (Chen et al. 2021, arXiv 2107.03374).
    """
    _, inverse_N, samples_Q = np.unique(question_N, return_inverse=True, return_counts=True)
    order_N = np.lexsort((score_N, inverse_N))
    starts_Q = np.cumsum(samples_Q) - samples_Q
    best_Q = np.full(len(samples_Q), np.nan)
    for samples in np.unique(samples_Q[samples_Q >= k]):
        of_size = np.flatnonzero(samples_Q == samples)
        places_QK = order_N[starts_Q[of_size, None] + np.arange(samples)]
        best_Q[of_size] = score_N[places_QK] @ best_weights(int(samples), k)
    return best_Q[~np.isnan(best_Q)]


def majority(score_N: np.ndarray, answers: Sequence[Hashable | None], question_N: np.ndarray) -> np.ndarray:
    """maj@k of each question: the score of the answer that most samples give.

    A sample without an answer has no vote; a question without votes scores 0. Between answers with equally many votes
    the mean of their scores counts: what drawing one of them would give on average, without depending on an order.
    """
    order_N = np.argsort(question_N, kind="stable")
    sizes = np.unique(question_N, return_counts=True)[1]
    scores, start = [], 0
    for size in sizes:
        votes: dict[Hashable, list[float]] = {}
        for place in order_N[start : start + size]:
            if answers[place] is not None:
                votes.setdefault(answers[place], []).append(float(score_N[place]))
        start += size
        most = max(map(len, votes.values()), default=0)
        # Samples of one answer have one score, but for white space that a rule for open answers may see.
        winners = [sum(given) / most for given in votes.values() if len(given) == most]
        scores.append(sum(winners) / len(winners) if winners else 0.0)
    return np.array(scores)
