"""Folders of runs become the payload of a page, whatever is in their files; only what was added is read again."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.common.schema import RL_SCHEMA, rl_row, video_entry
from tests.unit.clips import write_clip
from verl_care.records import groups, jsonl
from verl_care.report import text
from verl_care.report.collect import Collector, collect, names_of

HOSTILE = "</script><img src=x onerror=alert(1)> \u202e \ud800"


def metrics(path: Path, *steps: int, **values: float) -> None:
    lines = [{"step": step, "data": {"care/accuracy": step / 10, **values}} for step in steps]
    with path.open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def group(step: int, id: str, n: int = 2, **values) -> dict:
    response = {"text": "<answer>A</answer>", "accuracy": 1.0, "likelihood": 0.5, "answer": {"start": 8, "stop": 9}}
    return {
        "schema": 1, "kind": "group", "step": step, "uid": f"{step}-{id}", "data_source": "bench", "id": id,
        "prompt": "What next?", "options": ["A. stir"], "ground_truth": "A", "threshold": 0.4,
        "responses": [response] * n, **values,
    }  # fmt: skip


def dump(folder: Path, step: int, *rows: dict) -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"{step}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def validated(id: str, accuracy: float, dataset: str = "bench/L1", session: int = 0, **values) -> dict:
    return {
        "input": "user\nWhat next?", "output": "<answer>B</answer>", "gts": "A", "score": accuracy, "step": 0,
        "accuracy": accuracy, "format": 0.0, "data_source": dataset, "id": id, "uid": f"u{id}_{session}_0", **values,
    }  # fmt: skip


@pytest.fixture
def run(tmp_path) -> Path:
    folder = tmp_path / "care" / "training"
    folder.mkdir(parents=True)
    metrics(folder / "metrics.jsonl", 1, 2)
    jsonl.append(folder / "groups.jsonl.zst", [groups.start_record(0, "care"), group(1, "7"), group(2, "7")])
    return folder


def test_a_training(run):
    (run / "config.yaml").write_text("care: {bonus: hard, groups_per_step: 4}\ndata: {val_files: [a, b]}\nkey: null\n")
    payload = collect([run])
    assert json.loads(json.dumps(payload, allow_nan=False)) == payload
    (found,) = payload["runs"]
    assert found["name"] == "care"
    assert found["config"] == {
        "care.bonus": "hard", "care.groups_per_step": 4, "data.val_files": '["a", "b"]', "key": None,
    }  # fmt: skip
    assert found["metrics"]["care/accuracy"] == {"steps": [1, 2], "values": [0.1, 0.2]}
    assert [question["key"] for question in payload["questions"]] == ["bench/7"]
    assert [(g["run"], g["step"], g["question"], g["split"]) for g in payload["groups"]] == [
        (0, 1, 0, "train"), (0, 2, 0, "train"),
    ]  # fmt: skip
    response = payload["groups"][0]["responses"][0]
    assert (response["likelihood"], response["bonus"], response["measures"]) == (0.5, None, {})
    assert response["answer"] == {"start": 8, "stop": 9}


def test_the_quick_starts_folder_will_do(run):
    assert collect([run.parent])["runs"][0]["folder"] == str(run)


def test_no_run(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"neither a metrics\.jsonl nor a responses\.jsonl"):
        collect([tmp_path])


def test_only_what_was_added_is_read(run, monkeypatch):
    collector = Collector([run])
    before = collector.payload()
    assert not collector.update()
    taken = []
    read_on = jsonl.read_on
    monkeypatch.setattr(
        jsonl, "read_on", lambda path, offset: taken.append((path.name, offset)) or read_on(path, offset)
    )
    sizes = {name: (run / name).stat().st_size for name in ("metrics.jsonl", "groups.jsonl.zst")}
    metrics(run / "metrics.jsonl", 3)
    jsonl.append(run / "groups.jsonl.zst", [group(3, "8")])
    after = collector.payload()
    assert dict(taken) == sizes
    assert after["runs"][0]["metrics"]["care/accuracy"]["steps"] == [1, 2, 3]
    assert after["groups"][: len(before["groups"])] == before["groups"]
    assert [g["step"] for g in after["groups"]] == [1, 2, 3]


def test_what_is_half_written_waits(run):
    collector = Collector([run])
    collector.payload()
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "data": {"care/acc')
    assert not collector.update()
    with (run / "metrics.jsonl").open("a") as file:
        file.write('uracy": 0.9}}\n')
    assert collector.payload()["runs"][0]["metrics"]["care/accuracy"]["values"] == [0.1, 0.2, 0.9]


def test_a_resumed_run(run):
    """Killed in step 5, resumed from step 2: steps 3 and 4 of the first start are void, its other numbers stay."""
    collector = Collector([run])
    metrics(run / "metrics.jsonl", 3, 4)
    collector.payload()
    (run / "metrics.jsonl").rename(run / "metrics.until_step_2.jsonl")
    os.utime(run / "metrics.until_step_2.jsonl", (1, 1))
    # validation before training goes on, under the step's number
    (run / "metrics.jsonl").write_text(json.dumps({"step": 2, "data": {"val-core/b/L1/acc/mean@1": 0.5}}) + "\n")
    metrics(run / "metrics.jsonl", 3, speed=1.0)
    jsonl.append(run / "groups.jsonl.zst", [group(3, "old"), groups.start_record(2, "care"), group(3, "new")])
    for payload in (collector.payload(), collect([run])):
        found = payload["runs"][0]
        assert found["metrics"]["care/accuracy"] == {"steps": [1, 2, 3], "values": [0.1, 0.2, 0.3]}
        assert found["metrics"]["speed"] == {"steps": [3], "values": [1.0]}
        assert found["validation"] == [{"step": 2, "dataset": "b/L1", "questions": 0, "values": {"accuracy": 0.5}}]
        assert {q["id"] for q in payload["questions"]} == {"7", "new"}


def test_validation_with_what_the_data_says_of_its_questions(run, tmp_path):
    row = rl_row(
        data_source="bench/L1", text="What next?", ground_truth="A",
        videos=[video_entry(write_clip(tmp_path / "a.mp4"))], id="0", problem_type="multiple choice",
        options=["stir", "pour"], domain="kitchen",
    )  # fmt: skip
    pq.write_table(pa.Table.from_pylist([row], RL_SCHEMA), tmp_path / "val.parquet")
    (run / "config.yaml").write_text(json.dumps({"data": {"val_files": [str(tmp_path / "val.parquet"), "/gone"]}}))
    rows = [
        validated("0", 1.0, consistency_contradiction=1.0), validated("0", 0.0, session=1),
        validated("1", 0.0, consistency_contradiction=0.0),
    ]  # fmt: skip
    dump(run / "validation", 0, *rows)
    payload = collect([run])
    (entry,) = payload["runs"][0]["validation"]
    # three responses to two questions; two of them were measured
    assert (entry["step"], entry["dataset"], entry["questions"]) == (0, "bench/L1", 2)
    assert entry["values"] == {"accuracy": pytest.approx(1 / 3), "format": 0, "consistency_contradiction": 0.5}
    by_key = {question["key"]: question for question in payload["questions"]}
    known, unknown = by_key["bench/L1/0"], by_key["bench/L1/1"]
    assert known["options"] == ["A. stir", "B. pour"]
    assert known["tags"] == {"domain": "kitchen"}
    assert len(known["clips"][0]["frames"]) == 6  # 3 s at 2 frames a second
    assert (unknown["options"], unknown["clips"]) == ([], [])
    assert any("/gone" in note for note in payload["notes"])
    found = [g for g in payload["groups"] if g["split"] == "validation"]
    assert [len(g["responses"]) for g in found] == [2, 1]


def test_a_run_without_groups(tmp_path):
    """verl's own dump of rollouts: texts and scores, and no more."""
    metrics(tmp_path / "metrics.jsonl", 1)
    row = {"input": "What next?", "output": "<answer>A</answer>", "gts": "A", "score": 2.5, "step": 1}
    dump(tmp_path / "rollouts", 1, {**row, "uid": "u_0_0"}, {**row, "uid": "u_1_0"}, {**row, "uid": "v_0_0"})
    payload = collect([tmp_path])
    assert [len(g["responses"]) for g in payload["groups"]] == [2, 1]
    response = payload["groups"][0]["responses"][0]
    assert (response["reward"], response["accuracy"], response["answer"]) == (2.5, None, {"start": 8, "stop": 9})
    assert len(payload["questions"]) == 1  # the same prompt and answer: the same question


def test_bounds_leave_out_whole_questions_and_say_so(run):
    records = [group(step, str(id), n=4) for step in (3, 4) for id in range(10)]
    jsonl.append(run / "groups.jsonl.zst", records)
    payload = collect([run], max_responses=30)
    shown = [payload["questions"][g["question"]]["id"] for g in payload["groups"]]
    # eight responses to a question (4 at each of 2 steps), twelve to "7": three questions fit, with or without "7"
    assert sum(len(g["responses"]) for g in payload["groups"]) in (24, 28)
    assert len(set(shown)) == 3
    assert all(shown.count(id) == (4 if id == "7" else 2) for id in set(shown))
    assert any("of 84 responses are shown" in note for note in payload["notes"])
    few = collect([run], groups_per_step=1)
    assert sorted(g["step"] for g in few["groups"]) == [1, 2, 3, 4]
    assert len({g["question"] for g in few["groups"] if g["step"] > 2}) == 1  # the same one at both steps


def test_questions_of_a_validation_are_the_same_at_every_step(run):
    for step in (0, 5):
        dump(run / "validation", step, *(validated(str(id), 1.0) for id in range(20)))
    payload = collect([run], validation_questions=3)
    by_step = [
        {g["question"] for g in payload["groups"] if g["split"] == "validation" and g["step"] == s} for s in (0, 5)
    ]
    assert len(by_step[0]) == 3
    assert by_step[0] == by_step[1]
    assert [entry["questions"] for entry in payload["runs"][0]["validation"]] == [20, 20]  # the means are of all


def test_a_dump_that_was_set_aside_leaves_a_page_that_is_served(run):
    for step in (0, 5):
        dump(run / "validation", step, validated("0", 1.0))
    collector = Collector([run])
    collector.update()
    assert [entry["step"] for entry in collector.payload()["runs"][0]["validation"]] == [0, 5]
    (run / "validation/5.jsonl").rename(run / "5.jsonl")
    assert collector.update()
    assert [entry["step"] for entry in collector.payload()["runs"][0]["validation"]] == [0]
    assert not collector.update()


def test_hostile_text_is_text(run):
    jsonl.append(
        run / "groups.jsonl.zst",
        [
            group(
                3, HOSTILE, prompt=HOSTILE, options=[HOSTILE], tags={HOSTILE: HOSTILE}, threshold=10**400,
                videos=[{"video": HOSTILE}], images=[HOSTILE],
                responses=[{"text": HOSTILE, "answer": {"start": 5, "stop": 10**9}, "measures": {HOSTILE: "1"}}],
            )
        ],
    )  # fmt: skip
    payload = collect([run])
    json.dumps(payload, ensure_ascii=False, allow_nan=False).encode()  # valid Unicode throughout
    question = payload["questions"][-1]
    assert question["prompt"] == HOSTILE.replace("\ud800", "\ufffd")
    assert question["clips"][0]["reason"]
    found = payload["groups"][-1]
    assert found["threshold"] is None
    assert found["responses"][0]["answer"] is None


@pytest.mark.parametrize(
    "damage",
    [
        {"responses": None}, {"responses": ["text"]}, {"step": "3"}, {"step": None}, {"step": 3.5},
    ],
)  # fmt: skip
def test_damaged_groups_are_counted(run, damage):
    jsonl.append(run / "groups.jsonl.zst", [group(3, "8") | damage, group(4, "9"), groups.start_record(4, "")])
    payload = collect([run])
    assert [g["step"] for g in payload["groups"]] == [1, 2, 4]
    assert payload["notes"] == ["care: 1 groups are damaged and left out"]


def test_a_damaged_file_costs_what_is_in_it(run):
    (run / "metrics.jsonl").write_text("no JSON\n")
    dump(run / "validation", 0, validated("0", 1.0))
    payload = collect([run])
    assert payload["runs"][0]["metrics"] == {}
    assert len(payload["groups"]) == 3
    assert any("metrics.jsonl, line 1, is no JSON" in note for note in payload["notes"])


def test_a_response_of_megabytes_is_cut_and_counted(run):
    jsonl.append(run / "groups.jsonl.zst", [group(3, "8", responses=[{"text": "x" * (3 << 20)}])])
    payload = collect([run])
    response = payload["groups"][-1]["responses"][0]
    assert (len(response["text"]), response["cut"]) == (2 << 20, 1 << 20)
    assert payload["notes"] == ["1 responses are cut after 2,097,152 characters"]


def test_names_of_runs():
    paths = [Path("/x/a/training"), Path("/x/b/training"), Path("/y/b")]
    assert names_of(paths) == ["x/a", "x/b", "y/b"]
    assert names_of(paths[:2]) == ["a", "b"]
    assert names_of([Path("/x/a"), Path("/x/a")]) == ["a", "a"]


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(value=anything)
def test_whatever_is_read_can_be_written(value):
    for found in (text.clean(value), text.number(value), text.whole(value), text.texts(value), text.tags(value)):
        json.dumps(found, allow_nan=False, ensure_ascii=False).encode()
