"""What a training step leaves behind of its groups: which, what is in them, and what a kill or a full disk does."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tensordict import NonTensorStack, TensorDict

from verl_care.algorithm.consistency import ConsistencyBonus
from verl_care.records import group_log, groups, jsonl
from verl_care.records.group_log import GroupLog
from verl_care.scoring import Graded, Judged
from verl_care.settings import CareConfig

WORDS = ["<think>", "so stir.", "</think>", "<answer", ">A", ">B", "</answer>", "<end>"]
THINK, SO, CLOSE_THINK, OPEN, A, B, CLOSE, END = range(8)
TOKENIZER = SimpleNamespace(
    eos_token_id=END,
    pad_token_id=END,
    decode=lambda ids, skip_special_tokens: "".join(WORDS[token] for token in ids if token != END),
)
ROLLOUT = SimpleNamespace(prompt_length=4, response_length=6, max_model_len=None)
nan = float("nan")


def row(uid, ids, reward, advantage, log_prob=nan, span=None, **info):
    """What TransferQueue holds of one response."""
    start, stop = span or (-1, -1)
    graded = {"accuracy": 1.0, "format": 1.0, "answer_start": start, "answer_stop": stop, **info}
    return {
        "uid": uid,
        "prompts": torch.tensor([SO] * 3),
        "responses": torch.tensor(ids),
        "rm_scores": torch.tensor([0.0] * (len(ids) - 1) + [reward]),
        "advantages": torch.full((len(ids),), advantage),
        "ref_log_prob": torch.full((len(ids),), log_prob),
        "data_source": "bench",
        "reward_model": {"ground_truth": "A"},
        "extra_info": {"id": info.get("id"), "problem_type": "multiple choice", "options": ["stir", "pour"],
                       "domain": "kitchen", "scenario": None},
        "raw_prompt": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": [
                {"type": "video", "video": "a.mp4", "video_start": 1.0, "video_end": None, "raw_fps": None},
                {"type": "image", "image": "a.png"},
                {"type": "text", "text": "What next?"},
            ]},
        ],
        "extra_fields": {"reward_extra_info": graded, "frame_times": [[1.0, 1.3333333]]},
    }  # fmt: skip


ROWS = {
    "u1_1_0": row("u1", [SO, OPEN, B, CLOSE, END], 1.0, -1.5, span=(2, 3), id="7", accuracy=0.0),
    "u1_0_0": row("u1", [SO, OPEN, A, CLOSE, END], 2.5, 1.5, log_prob=-0.5, span=(2, 3), id="7",
                  consistency_agreement=1.0, consistency_judge=None),
    "u2_0_0": row("u2", [SO] * 6, 0.0, 0.0, id="9", accuracy=0.0, format=0.0),
}  # fmt: skip


@pytest.fixture
def judged(monkeypatch):
    def kv_batch_get(keys, partition_id, select_fields):
        assert partition_id == "train"
        columns = {name: [ROWS[key][name] for key in keys] for name in select_fields}
        return TensorDict(
            {
                name: torch.nested.as_nested_tensor(values, layout=torch.jagged)
                if isinstance(values[0], torch.Tensor)
                else NonTensorStack(*values)  # pyright: ignore[reportAbstractUsage]
                for name, values in columns.items()
            },
            batch_size=len(keys),
        )

    monkeypatch.setattr(group_log, "tq", SimpleNamespace(kv_batch_get=kv_batch_get))
    extras = [found["extra_fields"] for found in ROWS.values()]
    infos = [extra["reward_extra_info"] for extra in extras]
    graded = Graded(
        keys=list(ROWS),
        uid_N=[found["uid"] for found in ROWS.values()],
        accuracy_N=torch.tensor([info["accuracy"] for info in infos]),
        format_N=torch.tensor([info["format"] for info in infos]),
        spans=[None if info["answer_start"] < 0 else (info["answer_start"], info["answer_stop"]) for info in infos],
        cached_tokens_N=[None] * len(ROWS),
        extras=extras,
    )
    result = ConsistencyBonus(
        bonus_N=torch.tensor([0.0, 0.5, 0.0]),
        selected_N=torch.tensor([False, True, False]),
        threshold_N=torch.tensor([0.6065, 0.6065, nan]),
    )
    return Judged(graded, torch.tensor([nan, 0.6065, nan]), {"u1_0_0"}, result)


def log(folder: Path, **care) -> GroupLog:
    return GroupLog(folder, TOKENIZER, CareConfig(**{"groups_per_step": -1, **care}), ROLLOUT)


def test_the_record_of_a_step(tmp_path, judged):
    found = log(tmp_path)
    found.start(0, "run")
    found.write(3, judged, "train")
    start, *records = jsonl.read(tmp_path / "groups.jsonl.zst")
    assert (start["kind"], start["step"], start["run"]) == ("start", 0, "run")
    by_uid = {record["uid"]: record for record in records}
    first = by_uid["u1"]
    responses = first.pop("responses")
    assert first == {
        "schema": 1, "kind": "group", "step": 3, "uid": "u1", "data_source": "bench", "id": "7",
        "problem_type": "multiple choice", "prompt": "What next?", "question": None,
        "options": ["A. stir", "B. pour"], "ground_truth": "A", "tags": {"domain": "kitchen"},
        "videos": [{"video": "a.mp4", "video_start": 1.0, "video_end": None, "raw_fps": None,
                    "frame_times": [1.0, 1.3333]}],
        "images": ["a.png"], "threshold": pytest.approx(0.6065),
    }  # fmt: skip
    # in the order of their sessions, not of the batch; "so stir.<answer>A</answer>": the answer is character 16
    assert responses[0] == {
        "text": "so stir.<answer>A</answer>", "length": 5, "finish": "stop", "accuracy": 1.0, "format": 1.0,
        "likelihood": pytest.approx(0.6065), "bonus": 0.5, "reward": 2.5, "advantage": 1.5, "selected": True,
        "answer": {"start": 16, "stop": 17}, "answer_tokens": [{"text": ">A", "log_prob": -0.5}],
        "measures": {"agreement": 1.0, "judge": None, "contradiction": 1.0},
    }  # fmt: skip
    # not scored: its answer is shown, its log-probability is not known
    assert responses[1]["answer_tokens"] == [{"text": ">B", "log_prob": None}]
    assert (responses[1]["likelihood"], responses[1]["selected"]) == (None, False)
    assert responses[1]["measures"] == {"contradiction": 0.0}  # it concludes in stir and answers B, pour
    # cut off at 6 tokens, and without an answer
    assert by_uid["u2"]["threshold"] is None
    (cut,) = by_uid["u2"]["responses"]
    assert (cut["finish"], cut["answer"], cut["answer_tokens"], cut["reward"]) == ("length", None, [], 0.0)


def test_which_steps_and_how_many_groups(tmp_path, judged):
    found = log(tmp_path, groups_per_step=1, groups_every=5, groups_compressed=False)
    assert [step for step in range(1, 12) if found.wants(step)] == [1, 5, 10]
    found.write(1, judged, "train")
    assert len(list(jsonl.read(tmp_path / "groups.jsonl"))) == 1


def test_none(tmp_path):
    found = log(tmp_path, groups_per_step=0)
    found.start(0, "run")
    assert not found.wants(1)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_costs_the_log_and_not_the_run(tmp_path, judged, monkeypatch, caplog):
    found = log(tmp_path, groups_compressed=False)
    found.start(0, "run")
    with monkeypatch.context() as patch:
        append, full = jsonl.append, OSError(errno.ENOSPC, "No space left on device")

        def half(path, rows):
            path.open("ab").write(json.dumps(next(iter(rows))).encode()[:40])
            raise full

        patch.setattr(jsonl, "append", half)
        found.write(1, judged, "train")
        found.write(2, judged, "train")
    assert jsonl.append is append
    found.write(3, judged, "train")
    assert found.lost == 2
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1
    assert "No space left on device" in told[0]
    assert "care.groups_per_step=0" in told[0]
    # what was half written is gone, and nothing else
    assert [(r["kind"], r["step"]) for r in jsonl.read(found.path)] == [("start", 0), ("group", 3), ("group", 3)]


def test_what_a_power_cut_left_is_cut_off(tmp_path, judged):
    first = log(tmp_path)
    first.start(0, "run")
    with first.path.open("ab") as file:
        file.write(bytes(64))
    second = log(tmp_path)
    second.start(0, "run")
    second.write(1, judged, "train")
    assert second.lost == 0
    assert [record["kind"] for record in jsonl.read(second.path)] == ["start", "start", "group", "group"]


def test_damage_that_cannot_be_cut_off_costs_the_log_and_not_the_run(tmp_path, judged, caplog):
    first = log(tmp_path)
    first.start(0, "run")
    first.path.write_bytes(bytes(64) + first.path.read_bytes())
    second = log(tmp_path)
    second.start(0, "run")
    second.write(1, judged, "train")
    assert second.lost == 2
    assert [f"{second.path} is damaged" in record.getMessage() for record in caplog.records] == [True]


def test_a_resumed_run_goes_on_in_its_file(tmp_path, judged):
    first = log(tmp_path, groups_compressed=False)
    first.start(0, "run")
    for step in (1, 2, 3):
        first.write(step, judged, "train")
    with first.path.open("ab") as file:
        file.write(b'{"half')  # killed
    second = log(tmp_path)  # compressed by now, but the file is there
    second.start(2, "run")
    second.write(3, judged, "train")
    assert [path.name for path in tmp_path.iterdir()] == ["groups.jsonl"]
    records = list(jsonl.read(second.path))
    assert [record["step"] for record in records if record["kind"] == "start"] == [0, 2]
    assert [group["step"] for group in groups.valid(records)] == [1, 1, 2, 2, 3, 3]


def test_only_groups_behind_a_start_are_void():
    def group(step, name):
        return {"kind": "group", "step": step, "uid": name}

    def start(step):
        return {"kind": "start", "step": step}

    records = [start(0), group(1, "a"), group(2, "b"), group(3, "c"), start(1), group(2, "d"), start(2), group(3, "e")]
    assert [found["uid"] for found in groups.valid(records)] == ["a", "d", "e"]
    assert groups.valid([*records, start(0)]) == []  # a run from the beginning in the same folder


names = st.lists(st.text(max_size=5), unique=True, max_size=12)


@given(names=names, others=names, count=st.integers(0, 6))
def test_a_question_that_was_chosen_is_chosen_again(names, others, count):
    batch = {f"1-{name}": name for name in names}
    chosen = [batch[uid] for uid in groups.choose(batch, count)]
    assert len(chosen) == min(count, len(names))
    # in another batch, other questions of which may be better: the rest of the chosen come before the rest of the batch
    later = {f"2-{name}": name for name in {*names, *others}}
    ranked = [later[uid] for uid in groups.choose(later, groups.ALL)]
    assert [name for name in ranked if name in names][: len(chosen)] == chosen


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<answer> B </answer>", {"start": 9, "stop": 10}),
        ("<answer>\n</answer>", None),
        ("<answer>B", None),
        ("", None),
    ],
)
def test_where_the_answer_is(text, expected):
    assert groups.answer_place(text) == expected


def test_a_row_of_another_kind():
    """Text prompts, pixels, lists of frames, no extra_info: what is not known is empty or null."""
    prompt = [{"role": "user", "content": "1 + 1?"}]
    found = groups.question_record({"raw_prompt": prompt, "extra_info": None}, None)
    assert (found["prompt"], found["videos"], found["id"], found["tags"]) == ("1 + 1?", [], "", {})
    parts = [{"type": "video", "video": ["1.png", "2.png"], "raw_fps": 2}, {"type": "video", "video": torch.zeros(1)}]
    found = groups.question_record({"raw_prompt": [{"role": "user", "content": parts}]}, [[0.0]])  # of one clip only
    assert [video["video"] for video in found["videos"]] == [["1.png", "2.png"], None]
    assert [video["frame_times"] for video in found["videos"]] == [None, None]


def test_times_of_frames():
    from verl_care.data.media import frame_times, released_times

    metadata = {"fps": 8.0, "frames_indices": [0, 4, 9], "total_num_frames": 10, "video_backend": "pyav"}
    assert frame_times(metadata) == [0, 0.5, 1.125]  # 9 / 8
    assert frame_times(released_times(4)) is None  # those are no times of the clip
