"""Means over the answers of a validation, with what is unknown left out and counted. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

PREFIX = "consistency_"


def validation_metrics(
    data_sources: Sequence[str], columns: Mapping[str, Sequence[float | None]], n: int
) -> dict[str, float]:
    """`val-aux/<data source>/<measure>/mean@n` and `.../<measure>_known/mean@n`.

    Args:
        data_sources: of each answer.
        columns: `consistency_<measure>` -> its value for each answer, None where it is unknown.
        n: answers to a question.

    Returns:
        The mean over the known values, absent where there is none, and the share that is known.
    """
    metrics: dict[str, float] = {}
    for name, values in columns.items():
        for source in dict.fromkeys(data_sources):
            own = [value for value, where in zip(values, data_sources, strict=True) if where == source]
            known = [value for value in own if value is not None]
            metrics[f"val-aux/{source}/{name}_known/mean@{n}"] = len(known) / len(own)
            if known:
                metrics[f"val-aux/{source}/{name}/mean@{n}"] = sum(known) / len(known)
    return metrics
