"""What is kept of a run: its dumps read, its curves, and how its likelihoods agree with the truth."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from data_prep.miniature_world import LEVELS
from recipes.evidence import results
from recipes.evidence.dumps import Rollouts, lengths_by, read_training, read_validation, responses_of
from recipes.evidence.measure import Response
from recipes.evidence.plan import Run
from recipes.evidence.temptation import validation_lamps
from recipes.quickstart.consistency_rule import respond
from recipes.quickstart.stages import CHECKPOINT
from verl_care.records import groups, jsonl

OPTIONS = ("pour", "stir", "chop", "peel")
PROMPT = "What next?Options:\nA. pour\nB. stir\nC. chop\nD. peel\n"


def text(conclusion: str, letter: str = "B") -> str:
    return respond(["mix"], conclusion, letter)


def row(conclusion: str, letter: str = "B", **more) -> dict:
    return {"input": PROMPT, "output": text(conclusion, letter), "gts": "B", "uid": "p_0_0"} | more


def dump(path: Path, rows: Sequence[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


DRIFTED = Response.of("<think> seen mix.>D stir </think>\n<answer>B</answer>", OPTIONS, 1, 20)  # no "so"


def words(texts: Sequence[str]) -> list[int]:
    return [len(found.split()) for found in texts]


def group(step: int, uid: str, likelihoods: dict[str, float | None]) -> dict:
    responses = [{"text": found, "likelihood": value} for found, value in likelihoods.items()]
    return {"kind": "group", "step": step, "uid": uid, "responses": responses}


# ------------------------------------------------------------------ dumps


def test_length_is_counted_in_tokens_of_the_runs_own_tokenizer():
    # <think> seen mix. so stir </think>\n<answer>B</answer> is `<` `think` `>` ` seen` ` mix` `.` ` so` ` stir` ` </`
    # `think` `>\n` `<` `answer` `>B` `</` `answer` `>`: 17, and the end of the turn
    assert lengths_by(CHECKPOINT)([text("stir")]) == [18]


def test_a_validation_dump_is_measured_level_by_level(tmp_path: Path):
    rows = [row("stir", data_source=f"seed_bench_r1/{level}") for level in ("L1", "L2", "L3")]
    rows.append(row("pour", data_source="seed_bench_r1/L3"))
    likelihoods = {"stir": 0.9, "pour": 0.2}
    rows[2]["consistency_likelihood"], rows[3]["consistency_likelihood"] = likelihoods.values()
    dump(tmp_path / "4.jsonl", rows)
    found = read_validation(tmp_path / "4.jsonl", words)
    assert found["L1"]["consistency"] == 1
    assert found["L3"]["consistency"] == pytest.approx(1 / 2)
    assert found["L3"]["accuracy"] == 1
    assert found["L3"]["auc"] == 1
    assert "auc" not in found["L1"]


def test_a_lamp_is_that_of_its_level(tmp_path: Path):
    rows = [row("stir", data_source=f"seed_bench_r1/{level}", id="7") for level in ("L1", "L2", "L3")]
    dump(tmp_path / "4.jsonl", rows)
    found = read_validation(tmp_path / "4.jsonl", words, {"L1": {"7": "B"}, "L2": {"7": "C"}})
    assert [found[level].get("lamp") for level in ("L1", "L2", "L3")] == [1, 0, None]
    assert [found[level].get("lamp_wrong") for level in ("L1", "L2", "L3")] == [None, 1, None]


def test_lamps_are_read_by_level(tmp_path: Path):
    assert validation_lamps(tmp_path) == {}
    drawn = [
        {"file": f"validation_{level}", "id": "7", "letter": letter}
        for level, letter in zip(LEVELS, "ABC", strict=True)
    ]
    jsonl.append(tmp_path / "lamps.jsonl", [{"reliability": 0.8, "seed": 0}, *drawn])
    assert validation_lamps(tmp_path) == {"L1": {"7": "A"}, "L2": {"7": "B"}, "L3": {"7": "C"}}


def test_training_is_read_step_by_step_and_likelihoods_come_from_the_groups(tmp_path: Path):
    for step in (2, 10):
        dump(tmp_path / f"rollouts/{step}.jsonl", [row("stir", uid="p_0_0"), row("pour", uid="q_0_0")])
    dump(tmp_path / "metrics.jsonl", [{"step": 10, "data": {"care/bonus_rate": 0.5}}])
    written = [
        group(2, "p", {text("stir"): 0.9, text("chop"): 0.4}),
        group(2, "q", {text("pour"): None}),
        group(10, "p", {text("stir"): 0.1}),  # void: the run went on from step 5 and wrote it again
        groups.start_record(5, "resumed"),
        group(10, "p", {text("stir"): 0.7}),
    ]
    jsonl.append(groups.place(tmp_path), written)
    first, last = read_training(tmp_path, words)
    assert (first.step, last.step) == (2, 10)
    assert first.likelihoods[0] == 0.9
    assert last.likelihoods[0] == 0.7
    assert math.isnan(first.likelihoods[1])  # recorded, not scored
    assert math.isnan(last.likelihoods[1])  # not recorded
    assert (first.logged, last.logged) == ({}, {"care/bonus_rate": 0.5})


def test_another_dump_is_refused(tmp_path: Path):
    dump(tmp_path / "4.jsonl", [row("stir", data_source="x/L1")])
    with pytest.raises(ValueError, match=r"4.jsonl has no answers on L2, L3"):
        read_validation(tmp_path / "4.jsonl", words)
    with pytest.raises(ValueError, match="no miniature dump"):
        responses_of([{"input": "How many?", "output": "", "gts": "7"}], words)


# ------------------------------------------------------------------ curves and calibration


def rollouts(step: int, *judged: tuple[str, float], letter: str = "B", **logged: float | None) -> Rollouts:
    responses = [Response.of(text(conclusion, letter), OPTIONS, 1, 20) for conclusion, _ in judged]
    return Rollouts(step, responses, [likelihood for _, likelihood in judged], logged, ["p"] * len(judged))


def test_a_point_of_a_curve_is_of_all_rollouts_of_its_steps():
    steps = [rollouts(i, ("stir" if i > 20 else "pour", 0.96 if i > 25 else 0.4)) for i in range(1, 31)]
    steps[0] = rollouts(1, ("stir", 0.5), **{"care/bonus_rate": 0.25})
    steps[1].logged["care/bonus_rate"] = None  # as NaN is logged
    found = results.curves(steps)
    assert found["step"] == [20, 30]
    assert found["consistency"] == pytest.approx([1 / 20, 1])
    assert found["auc"] == [1, None]  # .5 against nineteen of .4; then no inconsistent one
    assert found["at_cap"] == pytest.approx([0, 5 / 10])
    assert found["bonus_rate"] == [0.25, None]


def test_bins_can_be_added_up():
    # accurate and scored: .05 and .15 inconsistent, .12 consistent, .95 and 1 consistent
    steps = [
        rollouts(1, ("pour", 0.05), ("pour", 0.15), ("stir", 0.12)),
        rollouts(2, ("stir", 0.95), ("stir", 1.0), ("stir", math.nan)),
        rollouts(2, ("pour", 0.5), letter="A"),  # wrong
        Rollouts(2, [DRIFTED], [0.35], {}, ["q"]),  # outside the grammar, and its letter is right
    ]
    found = results.calibration(steps)
    assert found["count"] == [1, 2, 0, 1, 0, 0, 0, 0, 0, 2]
    assert found["likelihood"] == pytest.approx([0.05, 0.27, 0, 0.35, 0, 0, 0, 0, 0, 1.95])
    assert found["consistent"] == [0, 1, 0, 0, 0, 0, 0, 0, 0, 2]
    assert found["capped"] == 2
    assert found["auc"] == pytest.approx(7 / 9)  # of 3 x 3 pairs .12 against .15 and .35 are the wrong way around
    assert found["steps"] == [1, 2]
    # within step 1's group: .12 against .05 and .15; step 2's has none that is inconsistent, accurate and scored
    assert (found["auc_within"], found["pairs_within"]) == (1 / 2, 2)


def test_pairs_are_of_one_prompt_and_one_step():
    # (p, step 1): .9 beats .1; (q, step 1): .2 loses to .8, and ties with .2; (p, step 2): nobody to beat
    steps = [
        rollouts(1, ("stir", 0.9), ("pour", 0.1), ("stir", 0.2), ("pour", 0.8), ("pour", 0.2)),
        rollouts(2, ("pour", 0.95)),
    ]
    steps[0] = steps[0]._replace(prompts=["p", "p", "q", "q", "q"])
    found = results.calibration(steps)
    assert found["pairs_within"] == 3
    assert found["auc_within"] == pytest.approx((1 + 0 + 1 / 2) / 3)


def test_letters_behind_no_option_beside_the_others_of_their_group():
    # p: .9 behind no step against .3 and .5 behind options, .9 - .4; q: .2 against .6, -.4, and .1 behind a step that
    # is no option against .6, -.5; r and the unscored: none to compare with. A wrong letter is not asked for
    judged = ("so", 0.9), ("stir", 0.3), ("pour", 0.5), ("so", 0.2), ("stir", 0.6), ("bake", 0.1), ("so", 0.7)
    steps = [
        rollouts(1, *judged)._replace(prompts=["p", "p", "p", "q", "q", "q", "r"]),
        rollouts(2, ("so", math.nan), ("stir", 0.1)),
        rollouts(2, ("so", 0.8), letter="A"),
    ]
    assert results.strays(steps) == {
        "right": 8, "stray": 3, "groups": 2, "gain": pytest.approx((0.5 - 0.4) / 2),
        "off_list": 1, "off_list_groups": 1, "off_list_gain": pytest.approx(-0.5),
    }  # fmt: skip
    assert results.strays([Rollouts(3, [DRIFTED], [0.8], {}, ["p"])])["stray"] == 1


def test_nothing_scored_is_empty_bins():
    found = results.calibration([rollouts(1, ("stir", math.nan))])
    assert (sum(found["count"]), found["auc"]) == (0, None)
    assert (found["auc_within"], found["pairs_within"]) == (None, 0)


def test_quarters_are_of_the_steps():
    parts = list(results.quarters([rollouts(step, ("stir", 0.5)) for step in range(1, 11)]))
    assert [[step.step for step in part] for part in parts] == [[1, 2, 3], [4, 5], [6, 7, 8], [9, 10]]
    assert list(results.quarters([])) == []


def test_a_result_is_small_and_whole(tmp_path: Path):
    training = tmp_path / "training"
    (tmp_path / "model").symlink_to(CHECKPOINT)
    for step in (0, 100, 200, 300, 400):
        rows = [row("stir", data_source=f"x/{level}", id="7") for level in LEVELS]
        dump(training / f"validation/{step}.jsonl", rows)
    for step in range(1, 401):
        dump(training / f"rollouts/{step}.jsonl", [row("stir"), row("pour")])
    jsonl.append(groups.place(training), [group(s, "p", {text("stir"): 1 / 3}) for s in range(1, 401)])
    logged = dict.fromkeys(results.LOGGED.values(), 0.25)
    dump(training / "metrics.jsonl", [{"step": step, "data": logged} for step in range(1, 401)])
    (tmp_path / "data").mkdir()
    lamps = [{"file": f"validation_{level}", "id": "7", "letter": "C"} for level in LEVELS]
    jsonl.append(tmp_path / "data/lamps.jsonl", [{"reliability": 0.8, "seed": 0}, *lamps])
    dump(
        tmp_path / results.GREEDY,
        [row("stir", letter, data_source=f"x/{level}", id="7") for level, letter in zip(LEVELS, "BBC", strict=True)],
    )
    (tmp_path / results.PROBE).write_text('{"its option": 0.81236}')
    found = results.result_of(Run("care", 3), training, 61.4)
    assert (found["variant"], found["seed"], found["seconds"]) == ("care", 3, 61)
    assert [entry["step"] for entry in found["validation"]] == [0, 100, 200, 300, 400]
    assert len(found["training"]["step"]) == 20
    assert [sum(part["count"]) for part in found["calibration"]] == [100] * 4
    assert found["calibration"][0]["likelihood"][3] == pytest.approx(100 / 3, abs=1e-4)
    assert {name: found["training"][name] for name in results.LOGGED} == {name: [0.25] * 20 for name in results.LOGGED}
    assert (found["validation"][-1]["L3"]["lamp"], found["validation"][-1]["L3"]["lamp_wrong"]) == (0, 1)
    assert [(found["greedy"][level]["accuracy"], found["greedy"][level]["lamp"]) for level in LEVELS] == [
        (1, 0),
        (1, 0),
        (0, 1),
    ]
    assert found["probe"] == {"its option": 0.8124}
    assert found["hardware"]["cpus"] >= 1
    assert found["bonus"] == {"answer_tokens": {}, "groups": 0, "told_apart": 0}  # these groups select nobody
    weights = (CHECKPOINT / "model.safetensors").read_bytes()
    assert found["warm_start"] == hashlib.sha256(weights).hexdigest()[:16]
    assert len(json.dumps(found, indent=1)) < 20_000


# ------------------------------------------------------------------ what the bonus tells apart


def test_groups_that_the_bonus_tells_apart(tmp_path: Path):
    def of(*bonuses: float | None, tokens: int = 1) -> dict:
        """A group; None is not selected."""
        written = [{"text": ">B", "log_prob": -0.1}] * tokens
        responses = [
            {"text": str(place), "selected": value is not None, "bonus": value or 0.0, "answer_tokens": written}
            for place, value in enumerate(bonuses)
        ]
        return group(1, "p", {}) | {"responses": responses}

    assert results.bonuses(tmp_path) == {}  # none were written
    written = [of(0.5, 0.0, None), of(0.5, 0.5), of(0.5, None), of(None, None), of(0.5, 0.0, tokens=2)]
    jsonl.append(groups.place(tmp_path), written)
    # selected: 2 + 2 + 1 of one token, 2 of two; the third group has but one
    assert results.bonuses(tmp_path) == {"answer_tokens": {"1": 5, "2": 2}, "groups": 3, "told_apart": 2}
