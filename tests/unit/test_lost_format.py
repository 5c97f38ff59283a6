"""Twenty steps under half in the format are told, and then twice as many; what is common is not."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from recipes.evidence.replay import updates
from recipes.quickstart.report import read_metrics
from verl_care.lost_format import LostFormat
from verl_care.trainer import CareTrainer

DIED = Path(updates.__file__).parent / "died"


def told(shares: Iterable[float], caplog: pytest.LogCaptureFixture) -> list[tuple[int, int]]:
    """(step of the warning, the last good step that it names)"""
    lost = LostFormat()
    with caplog.at_level(logging.WARNING, "verl_care"):
        for step, share in enumerate(shares, start=1):
            lost.add(step, share)
    messages = [record.getMessage() for record in caplog.records]
    return [(int(m.split(":")[0].removeprefix("step ")), int(m.split("; step ")[1].split()[0])) for m in messages]


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ([1.0] * 5 + [0.4] * 19, []),
        ([1.0] * 5 + [0.4] * 85, [(25, 5), (45, 5), (85, 5)]),
        ([1.0] * 5 + [0.4] * 19 + [0.5] + [0.4] * 19, []),  # half is not under half
        ([0.0] * 100, []),  # never had it: the first steps of a model that has to learn it
        ([0.0] * 30 + [0.8] + [0.0] * 20, [(51, 31)]),
        ([1.0] * 400, []),
    ],
)
def test_when_it_is_told(shares: list[float], expected: list[tuple[int, int]], caplog: pytest.LogCaptureFixture):
    assert told(shares, caplog) == expected


@pytest.mark.parametrize(("run", "expected"), [("grpo_1", (195, 175)), ("care_margin_4", (204, 182))])
def test_both_trainings_that_died_are_told(run: str, expected: tuple[int, int], caplog: pytest.LogCaptureFixture):
    logged = read_metrics(DIED / run)
    assert told((logged[step]["care/format"] for step in sorted(logged)), caplog) == [expected]


def test_what_to_do_is_said(caplog: pytest.LogCaptureFixture):
    assert told([1.0] + [0.25] * 20, caplog)
    message = caplog.records[0].getMessage()
    assert "0.25 in this one" in message
    assert "actor_rollout_ref.actor.optim.lr" in message


def test_the_trainer_tells_it_every_steps_format(monkeypatch: pytest.MonkeyPatch):
    added: list[tuple[int, float]] = []
    trainer: Any = object.__new__(CareTrainer)
    trainer.groups, trainer.care, trainer.global_steps = SimpleNamespace(lost=0), SimpleNamespace(packing=False), 3
    trainer.lost_format = SimpleNamespace(add=lambda step, share: added.append((step, share)))
    verls = next(base for base in CareTrainer.__mro__[1:] if "_compute_metrics" in vars(base))
    monkeypatch.setattr(verls, "_compute_metrics", lambda *_: None)
    trainer._compute_metrics(None, {"care/format": 0.25})
    assert added == [(3, 0.25)]
