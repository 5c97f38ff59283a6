"""Which runs are one setting with several seeds, and what a mean over seeds is worth. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from verl_care.report.payload import Metric, Run, Scalar

_OF_ONE_RUN = re.compile(r"(?:^|[._])(?:seed|experiment_name)$")


class Setting(NamedTuple):
    """Runs that differ in their seed only."""

    label: str
    runs: tuple[int, ...]


class Band(NamedTuple):
    """A mean over runs, and its 95 % interval; NaN where a step is in one run only."""

    steps: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def settings_of(runs: Sequence[Run]) -> list[Setting]:
    """Runs with the same configuration but for seeds, names and their own folder; a run without one stands alone.

    The label says what differs between the settings; where that says nothing, it is the name of the first run.
    """
    members: dict[object, list[int]] = defaultdict(list)
    configs = [_comparable(run) for run in runs]
    for number, config in enumerate(configs):
        members[frozenset(config.items()) if config else number].append(number)
    first = [configs[found[0]] for found in members.values()]
    keys = sorted({key for config in first for key in config if len({c.get(key) for c in first}) > 1})
    labels = [", ".join(f"{key.rsplit('.', 1)[-1]}={config[key]}" for key in keys if key in config) for config in first]
    if not all(labels) or len(set(labels)) < len(labels) or max(map(len, labels)) > 40:
        labels = [runs[found[0]]["name"] for found in members.values()]
    return [Setting(label, tuple(found)) for label, found in zip(labels, members.values(), strict=True)]


def _comparable(run: Run) -> Mapping[str, Scalar]:
    own = run["config"].get("trainer.default_local_dir")
    homes = [run["folder"], run["folder"].rpartition("/")[0], *([own] if isinstance(own, str) and own else [])]
    return {
        key: _without(value, homes) if isinstance(value, str) else value
        for key, value in run["config"].items()
        if not _OF_ONE_RUN.search(key)
    }


def _without(value: str, homes: Sequence[str]) -> str:
    for home in homes:
        value = value.replace(home, ".") if len(home) > 1 else value
    return value


def band(curves: Sequence[Metric], window: int = 1) -> Band:
    """Mean over runs at each step that one of them logged, and its interval by Student's t over the runs.

        mean +- t(0.975, n - 1) * s / sqrt(n)        n runs that have the step, s their standard deviation (n - 1)

    Args:
        curves: of the same metric, one per run.
        window: each run's value is first averaged over its last `window` logged steps, itself included.
    """
    from scipy.stats import t

    smooth = [smoothed(curve, window) for curve in curves]
    steps = sorted({step for curve in smooth for step in curve})
    value_RS = np.array([[curve.get(step, np.nan) for step in steps] for curve in smooth]).reshape(len(smooth), -1)
    n_S = (~np.isnan(value_RS)).sum(axis=0)
    mean_S = np.nansum(value_RS, axis=0) / n_S
    variance_S = np.nansum((value_RS - mean_S) ** 2, axis=0) / np.where(n_S > 1, n_S - 1, np.nan)
    half_S = t.ppf(0.975, np.where(n_S > 1, n_S - 1, np.nan)) * np.sqrt(variance_S / n_S)
    return Band(np.array(steps), mean_S, mean_S - half_S, mean_S + half_S)


def smoothed(curve: Metric, window: int) -> dict[int, float]:
    """Step -> mean of the last `window` values, fewer at the beginning."""
    known = [(s, v) for s, v in zip(curve["steps"], curve["values"], strict=True) if v is not None]
    values = [value for _, value in known]
    return {step: float(np.mean(values[max(0, at - window + 1) : at + 1])) for at, (step, _) in enumerate(known)}
