"""Draws that depend on nothing but a seed and names: not on the order of reading, nor on Python's version."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence


def rank(*parts: object) -> bytes:
    """A reproducible random key. A hash rather than `random`, whose sampling may change between Pythons."""
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()


def quotas(sizes: Counter[str], count: int) -> dict[str, int]:
    """How many of each source make up `count` rows in the mix of `sizes` (largest remainders; ties by name).

    Every quota is within one of its exact share, none is above its size, and they add up to min(count, all rows).
    """
    total = sizes.total()
    count = min(count, total)
    shares = {source: divmod(size * count, total) for source, size in sizes.items()} if total else {}
    left = count - sum(whole for whole, _ in shares.values())
    rounded_up = sorted(shares, key=lambda source: (-shares[source][1], source))[:left]
    return {source: whole + (source in rounded_up) for source, (whole, _) in shares.items()}


def sample(keys: Sequence[tuple[str, str]], count: int, seed: int) -> list[bool]:
    """Which of the (source, id) pairs are in a sample of `count` with the mix of sources kept."""
    quota = quotas(Counter(source for source, _ in keys), count)
    order = sorted(range(len(keys)), key=lambda i: rank(seed, "sample", *keys[i]))
    chosen = [False] * len(keys)
    for i in order:
        source = keys[i][0]
        if quota[source]:
            quota[source] -= 1
            chosen[i] = True
    return chosen
