"""How often a response finds its prompt's work done by another of its group: vLLM's two caches, as step metrics.

The prefix cache keeps attention keys and values of whole blocks of prompt tokens. The clip cache keeps what the model's
processor made of a clip or an image. verl 0.9.1 empties both after every rollout, so hits are within a step, and a
group's responses meet because `CareAgentLoop` sends them to one server.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def prefix_cache_metrics(cached_N: Sequence[int | None], prompt_length_N: Sequence[int]) -> dict[str, float]:
    """`care/prefix_cache_hit_rate`: prompt tokens found in vLLM's prefix cache, of all prompt tokens.

    Args:
        cached_N: cached prompt tokens of each response; None where the server does not say.
        prompt_length_N: prompt tokens of each response.

    Returns:
        the rate over the responses whose server says; nothing if none does. A group of G whose prompts fill whole
        blocks reaches (G - 1) / G.
    """
    known = [(cached, length) for cached, length in zip(cached_N, prompt_length_N, strict=True) if cached is not None]
    tokens = sum(length for _, length in known)
    return {"care/prefix_cache_hit_rate": sum(cached for cached, _ in known) / tokens} if tokens else {}


def clip_cache_metrics(before: Sequence[tuple[int, int]], after: Sequence[tuple[int, int]]) -> dict[str, float]:
    """`care/clip_cache_hit_rate` from each server's `clip_cache_counts` around a rollout; nothing if no clip was asked
    for."""
    hits, asked = (sum(count[i] for count in after) - sum(count[i] for count in before) for i in (0, 1))
    return {"care/clip_cache_hit_rate": hits / asked} if asked else {}


def clip_cache_counts(server: Any) -> tuple[int, int]:
    """(hits, queries) of a vLLM server's clip cache since it last slept or had new weights, which sets them to zero.

    Runs inside verl's server actor (`vLLMHttpServer.engine` is vLLM's AsyncLLM).
    """
    cache = server.engine.renderer.mm_processor_cache
    if cache is None:  # a model without vision, or a cache of size 0
        return 0, 0
    counts = cache.make_stats()
    return counts.hits, counts.total
