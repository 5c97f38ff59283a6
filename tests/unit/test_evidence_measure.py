"""The miniature's measures, on responses whose worth is plain to see."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from recipes.evidence.dumps import measure_training, measure_validation, response_of
from recipes.evidence.measure import Response, measure
from recipes.quickstart.consistency_rule import respond

OPTIONS = ("pour", "stir", "chop", "peel")
PROMPT = "What next?Options:\nA. pour\nB. stir\nC. chop\nD. peel\n"


def judged(conclusion: str, letter: str, truth: int = 1) -> Response:
    return Response.of(respond(["mix"], conclusion, letter), OPTIONS, truth, 20)


GOOD = judged("stir", "B")  # right for the right reason
CONTRADICTED = judged("pour", "B")  # right, and its reasoning says A
OFF_LIST = judged("bake", "B")  # right, and its reasoning says what no letter stands for
FAITHFUL = judged("pour", "A")  # wrong, as its reasoning is
BABBLE = Response.of("B", OPTIONS, 1, 1)


def test_each_kind_of_response():
    assert (GOOD.accuracy, GOOD.consistent, GOOD.conclusion_right) == (1, True, True)
    assert (CONTRADICTED.accuracy, CONTRADICTED.consistent, CONTRADICTED.conclusion_listed) == (1, False, True)
    assert (OFF_LIST.accuracy, OFF_LIST.consistent, OFF_LIST.conclusion_listed) == (1, False, False)
    assert (FAITHFUL.accuracy, FAITHFUL.consistent, FAITHFUL.conclusion_right) == (0, True, False)
    assert (BABBLE.in_grammar, BABBLE.accuracy, BABBLE.consistent) == (False, 0, False)


def test_a_letter_outside_the_list_is_neither_accurate_nor_consistent():
    found = judged("stir", "E")
    assert (found.accuracy, found.consistent) == (0, False)


def test_means_over_all_five():
    found = measure([GOOD, CONTRADICTED, OFF_LIST, FAITHFUL, BABBLE])
    assert found["accuracy"] == pytest.approx(3 / 5)  # the first three
    assert found["consistency"] == pytest.approx(2 / 5)  # good, faithful
    assert found["right_reason"] == pytest.approx(1 / 5)
    assert found["right_contradicted"] == pytest.approx(2 / 5)
    assert found["conclusion_listed"] == pytest.approx(3 / 5)
    assert found["format"] == pytest.approx(4 / 5)
    assert found["direct"] == pytest.approx(2 / 4)  # of the four without a right conclusion, two are accurate
    assert found["length"] == pytest.approx((4 * 20 + 1) / 5)


def test_likelihood_is_judged_on_accurate_responses():
    # consistent .9, inconsistent .3 and .95: one of two pairs is in order; one of three stands at the cap
    found = measure([GOOD, CONTRADICTED, OFF_LIST, FAITHFUL], [0.9, 0.3, 0.95, 0.1])
    assert found["auc"] == pytest.approx(1 / 2)
    assert found["at_cap"] == pytest.approx(1 / 3)
    tied = measure([GOOD, CONTRADICTED], [0.5, 0.5])
    assert tied["auc"] == pytest.approx(1 / 2)


def test_what_cannot_be_said_is_absent():
    assert "auc" not in measure([GOOD, GOOD], [0.9, 0.8])
    assert "at_cap" not in measure([GOOD], [math.nan])
    assert "direct" not in measure([GOOD])
    with pytest.raises(ValueError, match="no responses"):
        measure([])


def dump(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def row(conclusion: str, letter: str, **more) -> dict:
    return {"input": PROMPT, "output": respond(["mix"], conclusion, letter), "gts": "B"} | more


def test_a_validation_dump_is_measured_level_by_level(tmp_path: Path):
    rows = [row("stir", "B", data_source=f"seed_bench_r1/{level}") for level in ("L1", "L2", "L3")]
    rows.append(row("pour", "B", data_source="seed_bench_r1/L3"))
    dump(tmp_path / "4.jsonl", rows)
    found = measure_validation(tmp_path / "4.jsonl")
    assert found["L1"]["consistency"] == 1
    assert found["L3"]["consistency"] == pytest.approx(1 / 2)
    assert found["L3"]["accuracy"] == 1


def test_training_is_measured_step_by_step(tmp_path: Path):
    for step, conclusion in ((2, "pour"), (10, "stir")):
        dump(tmp_path / f"rollouts/{step}.jsonl", [row(conclusion, "B")])
    dump(tmp_path / "metrics.jsonl", [{"step": 10, "data": {"care/bonus_rate": 0.5}}])
    found = measure_training(tmp_path)
    assert [(step["step"], step["consistency"]) for step in found] == [(2, 0), (10, 1)]
    assert "bonus_rate" not in found[0]
    assert found[1]["bonus_rate"] == 0.5


def test_another_dump_is_refused():
    with pytest.raises(ValueError, match="no miniature dump"):
        response_of({"input": "How many?", "output": "", "gts": "7"})
