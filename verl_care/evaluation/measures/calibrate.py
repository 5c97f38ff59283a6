"""`calibrate RUN --likelihood NAME --labels NAME`: from likelihoods to probabilities of consistency."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from verl_care.consistency_measures.calibration import (
    Calibration,
    auc,
    cross_fitted,
    expected_calibration_error,
    fit,
    reliability,
)
from verl_care.evaluation.rows import MEASURES, Key, Measured, append_measures, read_measures

DESCRIPTION = "make a likelihood the probability that a response is consistent, learned from labels such as a judge's"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_folder", metavar="RUN", type=Path, help="folder of an evaluation")
    parser.add_argument("--likelihood", required=True, metavar="NAME", help="a measure of RUN: likelihood-...")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--labels", metavar="NAME", help="a measure of RUN with verdicts to learn from: judge-...")
    source.add_argument("--calibration", type=Path, metavar="FILE", help="a calibration learned before")
    parser.add_argument("--out", type=Path, help="where the calibration goes (RUN/calibration-NAME.json)")


def run(arguments: argparse.Namespace) -> int:
    measures = read_measures(arguments.run_folder)
    likelihood = _measure(measures, arguments.likelihood, arguments.run_folder)
    if arguments.calibration:
        calibration = Calibration.load(arguments.calibration)
    else:
        labels = _measure(measures, arguments.labels, arguments.run_folder)
        pairs = [
            (found.value, round(labels[key].value))  # type: ignore[arg-type]
            for key, found in likelihood.items()
            if found.value is not None and key in labels and labels[key].value is not None
        ]
        x_N, y_N = (np.array(column, dtype=float) for column in zip(*pairs, strict=True)) if pairs else ([], [])
        source = f"{arguments.labels} on {arguments.likelihood} of {arguments.run_folder.resolve().name}"
        calibration = fit(x_N, y_N, source)
        out = arguments.out or arguments.run_folder / f"calibration-{arguments.likelihood}.json"
        calibration.save(out)
        print_quality(np.asarray(x_N), np.asarray(y_N))
        print(f"calibration of {calibration.labelled} labelled responses: {out}")
    name = f"{arguments.likelihood}-calibrated"
    done = measures.get(name, {})
    if any(found.value is not None for found in done.values()):
        raise ValueError(
            f"{arguments.run_folder / MEASURES / name}.jsonl is there already: remove it to calibrate anew"
        )
    measured = [
        Measured(key, None if found.value is None else float(calibration([found.value])[0]), found.why)
        for key, found in likelihood.items()
    ]
    append_measures(arguments.run_folder, name, measured, source=calibration.source)
    print(f"{len(measured)} calibrated likelihoods: measure {name}, by {calibration.source}")
    return 0


def print_quality(likelihood_N: np.ndarray, consistent_N: np.ndarray) -> None:
    """AUC, calibration errors, and the reliability curve of five-fold calibrated probabilities."""
    probability_N = cross_fitted(likelihood_N, consistent_N)
    raw = expected_calibration_error(reliability(likelihood_N, consistent_N))
    curve = reliability(probability_N, consistent_N)
    print(f"AUC {auc(likelihood_N, consistent_N):.3f}")
    print(f"expected calibration error {raw:.3f} as it is, {expected_calibration_error(curve):.3f} calibrated")
    print("probability  responses  predicted  consistent")
    for part in curve:
        print(f"{part.low:.1f} - {part.high:.1f}    {part.count:9d}  {part.predicted:9.3f}  {part.observed:10.3f}")


def _measure(measures: Mapping[str, dict[Key, Measured]], name: str, run: Path) -> dict[Key, Measured]:
    if name not in measures:
        raise ValueError(f"{run} has no measure {name}; it has {', '.join(measures) or 'none'}")
    return measures[name]
