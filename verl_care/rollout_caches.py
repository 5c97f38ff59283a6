"""How often a response finds its prompt's work done by another of its group: vLLM's two caches, as step metrics.

The prefix cache keeps attention keys and values of whole blocks of prompt tokens. The clip cache keeps what the model's
processor made of a clip or an image. verl 0.9.1 empties both with every weight sync, so hits are within a step.
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


class ClipCacheMeter:
    """The hit rate of vLLM's clip caches since it was last asked, from their counters."""

    def __init__(self) -> None:
        self._before: list[tuple[int, int]] = []

    def metrics(self, counts: Sequence[tuple[int, int] | None]) -> dict[str, float]:
        """`care/clip_cache_hit_rate` from each server's `clip_cache_counts`; nothing if no clip was asked for."""
        now = [count or (0, 0) for count in counts]
        before = self._before if len(self._before) == len(now) else [(0, 0)] * len(now)
        self._before = now
        hits, asked = (sum(new[i] - old[i] for new, old in zip(now, before, strict=True)) for i in (0, 1))
        return {"care/clip_cache_hit_rate": hits / asked} if asked > 0 else {}


def clip_cache_counts(server: Any) -> tuple[int, int] | None:
    """(hits, queries) of a vLLM server's clip cache since it started; None without such a cache.

    Runs inside verl's server actor (`vLLMHttpServer.engine` is vLLM's AsyncLLM).
    """
    cache = server.engine.renderer.mm_processor_cache
    if cache is None:
        return None
    counts = cache.make_stats()
    return counts.hits, counts.total
