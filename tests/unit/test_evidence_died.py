"""What is said of the two trainings that died is in their records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from recipes.evidence.replay import updates
from recipes.quickstart.report import read_metrics
from verl_care.algorithm.advantage import group_advantage
from verl_care.records import groups, jsonl

DIED = Path(updates.__file__).parent / "died"


@pytest.fixture(params=["grpo_1", "care_margin_4"])
def died(request: pytest.FixtureRequest) -> str:
    return request.param


def of_steps(run: str) -> Mapping[int, Sequence[Mapping[str, Any]]]:
    return updates._by_step(groups.valid(jsonl.read(groups.place(DIED / run))))


def test_a_record_is_whole(died: str):
    steps, logged = of_steps(died), read_metrics(DIED / died)
    assert sorted(steps) == sorted(logged) == list(range(1, {"grpo_1": 200, "care_margin_4": 210}[died] + 1))
    assert all(len(step) == 4 and all(len(group["responses"]) == 8 for group in step) for step in steps.values())


def test_recorded_advantages_are_those_of_the_recorded_rewards(died: str):
    for step in of_steps(died).values():
        for group in step:
            rewards = torch.tensor([response["reward"] for response in group["responses"]])
            advantages = torch.tensor([response["advantage"] for response in group["responses"]])
            torch.testing.assert_close(group_advantage(rewards, [0] * 8), advantages)


def test_the_closing_tag_is_lost_where_the_page_says():
    closed = {
        step: [[r["text"].endswith("</answer>") for r in group["responses"]] for group in recorded]
        for step, recorded in of_steps("care_margin_4").items()
    }
    assert [sum(not any(group) for group in closed[step]) for step in range(182, 187)] == [0, 1, 1, 3, 4]
    assert not any(any(group) for step in range(186, max(closed) + 1) for group in closed[step])


def test_what_the_page_tells_of_grpo():
    steps, logged = of_steps("grpo_1"), read_metrics(DIED / "grpo_1")
    assert [round(logged[step]["actor/grad_norm"], 2) for step in (169, 170, 171, 172)] == [0.01, 0.01, 0.32, 10.26]
    assert any("</<>" in r["text"] and r["advantage"] < -2.4 for group in steps[172] for r in group["responses"])
    for step in (173, 174):
        assert all(len({r["reward"] for r in group["responses"]}) == 1 for group in steps[step])
    (broken,) = [group for group in steps[175] if all("</>>" in r["text"] for r in group["responses"])]
    assert sorted(round(r["advantage"], 2) for r in broken["responses"]) == [-2.47, *[0.35] * 7]
    assert sum(r["format"] for r in broken["responses"]) == 7
    assert logged[176]["care/format"] == 0
    assert {32 * logged[step]["care/format"] for step in range(177, 201)} == {0, 1, 2, 5}
    assert max(of["training/rollout_probs_diff_max"] for of in logged.values()) < 3e-4
