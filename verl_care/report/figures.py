"""Pictures for papers: curves with intervals over seeds, likelihoods, and who gets the bonus. PNG and PDF.

    curves        what training logs, over its steps
    validation    accuracy on each data set, over the steps
    likelihood    the reference's likelihood of answers, by selected and by consistent
    bonus         the share of selected responses with the bonus, and of consistent and of inconsistent ones

A picture that has nothing to show is not made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from verl_care.report import figure_style as style
from verl_care.report.collect import collect
from verl_care.report.payload import Metric, Payload, Response
from verl_care.report.seeds import Setting, band, settings_of

PANELS = {
    "accuracy": "care/accuracy",
    "share of selected with bonus": "care/bonus_rate",
    "likelihood of selected answers": "care/likelihood_mean",
    "response length (tokens)": "response_length/mean",
    "entropy (nats per token)": "actor/entropy",
    "distance of the reference": "care/reference_distance",
}
SHARES = {"care/accuracy", "care/bonus_rate", "care/likelihood_mean"}
SMOOTHING = 10
"""A curve is a running mean over this part of its points."""
MEASURES = ("judge", "contradiction", "agreement")
"""How names of consistency measures begin, the one that is worth most first; a likelihood has a picture of its own."""
BINS = np.linspace(0, 1, 26)


def write(runs: Sequence[Path], folder: Path) -> list[Path]:
    """Draw all pictures that the runs have something for; the files written.

    Raises:
        FileNotFoundError: a folder that is no run.
        ValueError: matplotlib or scipy is not installed.
    """
    if missing := [name for name in ("matplotlib", "scipy") if find_spec(name) is None]:
        raise ValueError(f"pictures need {' and '.join(missing)}: pip install 'verl_care[report]'")
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    payload = collect(runs, max_image_bytes=0, max_responses=10**9)
    settings = settings_of(payload["runs"])
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    drawings: dict[str, Callable[[Payload, Sequence[Setting]], Any]] = {
        "curves": curves, "validation": validation, "likelihood": likelihood, "bonus": bonus,
    }  # fmt: skip
    with plt.rc_context(style.RC):
        for name, draw in drawings.items():
            figure = draw(payload, settings)
            if figure is None:
                continue
            for suffix in (".png", ".pdf"):
                figure.savefig(folder / (name + suffix))
                written.append(folder / (name + suffix))
            plt.close(figure)
    return written


def curves(payload: Payload, settings: Sequence[Setting]) -> Any:
    """Small multiples over the steps."""
    shown = {title: name for title, name in PANELS.items() if any(name in run["metrics"] for run in payload["runs"])}
    panels = {
        title: [[payload["runs"][run]["metrics"].get(name) for run in setting.runs] for setting in settings]
        for title, name in shown.items()
    }
    if not any(len(curve["steps"]) > 1 for rows in panels.values() for row in rows for curve in row if curve):
        return None
    shares = {title for title, name in shown.items() if name in SHARES}
    return style.small_multiples(panels, settings, SMOOTHING, shares)


def validation(payload: Payload, settings: Sequence[Setting]) -> Any:
    """Accuracy on each data set."""
    datasets = sorted({entry["dataset"] for run in payload["runs"] for entry in run["validation"]})

    def curve(run: int, dataset: str) -> Metric | None:
        entries = [entry for entry in payload["runs"][run]["validation"] if entry["dataset"] == dataset]
        found = {entry["step"]: entry["values"]["accuracy"] for entry in entries if "accuracy" in entry["values"]}
        return {"steps": list(found), "values": list(found.values())} if found else None

    panels = {
        f"accuracy on {dataset}": [[curve(run, dataset) for run in setting.runs] for setting in settings]
        for dataset in datasets
    }
    if not any(found and len(found["steps"]) > 1 for rows in panels.values() for row in rows for found in row):
        return None
    return style.small_multiples(panels, settings, 0, set(panels))


def likelihood(payload: Payload, settings: Sequence[Setting]) -> Any:
    """How likely the reference finds answers, in training: with the bonus and without; consistent and not."""
    from matplotlib import pyplot as plt

    by = {
        "selected responses, by bonus": ("with bonus", "without", lambda response: bool(response["bonus"])),
        "selected responses, by consistency": ("consistent", "inconsistent", consistent),
    }
    panels = []
    for setting in settings:
        found = [r for r in _responses(payload, setting) if r["selected"] and r["likelihood"] is not None]
        for title, (yes, no, kind) in by.items():
            sides = [[response["likelihood"] for response in found if kind(response) is side] for side in (True, False)]
            if any(sides):
                panels.append((f"{setting.label}\n{title}" if len(settings) > 1 else title, sides, (yes, no)))
    if not panels:
        return None
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(3.5 * columns, 2.2 * rows + 0.2), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, (title, sides, names) in zip(axes.flat, panels, strict=False):
        axis.set_title(title)
        for values, name, colour in zip(sides, names, style.COLOURS, strict=False):
            label = f"{name} ({len(values):,})"
            axis.hist(values, BINS, histtype="stepfilled", fc=(colour, 0.3), ec=colour, linewidth=1.2, label=label)
        axis.legend(**style.LEGEND)
        axis.set_xlim(0, 1)
        axis.set_xlabel("likelihood of the answer under the reference")
        axis.set_ylabel("responses")
        axis.grid(axis="x", visible=False)
    return figure


def bonus(payload: Payload, settings: Sequence[Setting]) -> Any:
    """Share of responses with the bonus over the steps: of the selected, of consistent ones, of others."""
    kinds: dict[str, Callable[[Response], bool | None]] = {
        "selected": lambda r: r["selected"],
        "right and consistent": lambda r: _right(r) and consistent(r) is True,
        "right and inconsistent": lambda r: _right(r) and consistent(r) is False,
    }
    panels = {}
    for setting in settings:
        series = {
            kind: found
            for kind, of_kind in kinds.items()
            if (found := [c for run in setting.runs if (c := _bonus_rate(payload, run, of_kind))["steps"]])
        }
        if series:
            panels[setting.label] = series
    if not panels:
        return None
    from matplotlib import pyplot as plt
    from matplotlib.ticker import MaxNLocator

    figure, axes = plt.subplots(
        1, len(panels), figsize=(max(3.6, 3 * len(panels)), 2.5), sharey=True, squeeze=False, layout="constrained"
    )
    for axis, (label, series) in zip(axes.flat, panels.items(), strict=True):
        axis.set_title(label if len(panels) > 1 else "responses with the bonus")
        for (kind, found), colour in zip(series.items(), style.colours(), strict=False):
            style.draw(axis, band(found, style.window_of(found, SMOOTHING)), colour, kind)
        axis.legend(**style.LEGEND)
        axis.set_ylim(0, 1.02)
        axis.set_xlabel("step")
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    axes[0, 0].set_ylabel("share with bonus")
    return figure


def _bonus_rate(payload: Payload, run: int, of_kind: Callable[[Response], bool | None]) -> Metric:
    counted: dict[int, list[bool]] = {}
    for group in payload["groups"]:
        if group["run"] == run and group["split"] == "train":
            found = [r["bonus"] > 0 for r in group["responses"] if r["bonus"] is not None and of_kind(r)]
            if found:
                counted.setdefault(group["step"], []).extend(found)
    steps = sorted(counted)
    return {"steps": steps, "values": [sum(counted[step]) / len(counted[step]) for step in steps]}


def consistent(response: Response) -> bool | None:
    """By the measure that is worth most of those that know: at least one half is consistent."""
    known = {name: value for name, value in response["measures"].items() if value is not None}
    for kind in MEASURES:
        for name in sorted(known):
            if name.startswith(kind):
                return known[name] >= 0.5
    return None


def _right(response: Response) -> bool:
    return response["accuracy"] is not None and response["accuracy"] > 0.1


def _responses(payload: Payload, setting: Setting) -> Iterator[Response]:
    for group in payload["groups"]:
        if group["run"] in setting.runs and group["split"] == "train":
            yield from group["responses"]
