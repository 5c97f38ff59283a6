"""What the quick start prints, worked out by hand on dumps as verl writes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recipes.quickstart import report

QUESTION = "user\nWhat next?Options:\nA. stir\nB. pour\nC. chop\nD. peel\n\nassistant\n"


def row(level: str, conclusion: str, letter: str, accuracy: float) -> dict:
    output = f"<think> seen fill. so {conclusion} </think>\n<answer>{letter}</answer>"
    return {"input": QUESTION, "output": output, "accuracy": accuracy, "data_source": f"seed_bench_r1/{level}"}


def write(path: Path, rows: list[dict], tail: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + tail)
    return path


def test_accuracy_and_consistency_of_each_level(tmp_path):
    dump = write(
        tmp_path / "0.jsonl",
        [
            row("L1", "stir", "A", 1.0),  # right and consistent
            row("L1", "pour", "A", 1.0),  # right, but the reasoning says B
            row("L1", "pour", "B", 0.0),  # wrong and consistent
            row("L1", "wash", "C", 0.0),  # concludes in no option
            row("L2", "chop", "C", 1.0),
            row("L3", "chop", "D", 0.0),
        ],
    )
    found = report.evaluate(dump)
    # L1: 2 of 4 right, 2 of 4 consistent
    assert found["L1"] == {"accuracy": 0.5, "consistency": 0.5, "questions": 4}
    assert found["L2"] == {"accuracy": 1.0, "consistency": 1.0, "questions": 1}
    assert found["L3"] == {"accuracy": 0.0, "consistency": 0.0, "questions": 1}


def test_a_response_outside_the_grammar_is_not_consistent():
    assert not report.is_consistent({"input": QUESTION, "output": "A"})


def test_rise_is_between_the_first_and_the_last_ten_steps():
    # accuracies 0.01, 0.02, ... 0.30: means of 0.01..0.10 and of 0.21..0.30
    logged = {step: {"care/accuracy": step / 100} for step in range(1, 31)}
    assert report.training_rise(logged) == pytest.approx((0.055, 0.255))


def test_a_resumed_run_is_one_curve(tmp_path):
    def line(step: int, accuracy: float) -> dict:
        return {"step": step, "data": {"care/accuracy": accuracy}}

    write(tmp_path / "metrics.until_step_2.jsonl", [line(0, 0.0), line(1, 0.1), line(2, 0.2), line(3, 0.3)])
    write(tmp_path / "metrics.jsonl", [line(3, 0.9), line(4, 0.4)], tail='{"step": 5, "da')
    found = report.read_metrics(tmp_path)
    assert {step: data["care/accuracy"] for step, data in found.items()} == {1: 0.1, 2: 0.2, 3: 0.9, 4: 0.4}


def test_a_validation_before_a_resumed_training_does_not_hide_the_step(tmp_path):
    (tmp_path / "metrics.until_step_2.jsonl").write_text('{"step": 2, "data": {"care/accuracy": 0.2}}\n')
    (tmp_path / "metrics.jsonl").write_text('{"step": 2, "data": {"val-core/acc": 0.5}}\n')
    assert report.read_metrics(tmp_path) == {2: {"care/accuracy": 0.2, "val-core/acc": 0.5}}


def test_curves_are_drawn(tmp_path):
    logged = {
        step: {"care/accuracy": 0.5, "care/bonus_rate": 0.7, "care/likelihood_mean": 0.8} for step in range(1, 15)
    }
    report.draw_curves(logged, {1: 0.5, 2: 0.6}, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
