"""Rows without an id, from the reward manager to the page: each question stays itself."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from omegaconf import OmegaConf
from tensordict import TensorDict
from verl import DataProto

from data_prep.common.schema import RL_SCHEMA, rl_row
from tests.unit.test_collect import dump, metrics, validated
from verl_care.data.marks import Columns
from verl_care.records import groups
from verl_care.records.group_log import _name
from verl_care.report import data_rows, dumps, folders
from verl_care.report.collect import collect
from verl_care.rewards.manager import CareRewardManager


class FakeTokenizer:
    def decode(self, ids, skip_special_tokens=False):
        return "".join(map(chr, ids))


@pytest.mark.parametrize("info", [None, {}, {"id": None}, {"id": None, "problem_type": None}])
def test_a_null_is_no_name(info):
    ids = [ord(character) for character in "<answer>B</answer>"]
    data = DataProto(
        batch=TensorDict({"responses": torch.tensor([ids])}, batch_size=1),
        non_tensor_batch={
            "response_len": np.array([len(ids)]),
            "reward_model": np.array([{"ground_truth": "B", "style": "rule"}]),
            "extra_info": np.array([info]),
            "data_source": np.array(["mine"]),
        },
    )

    async def run():
        return await CareRewardManager(OmegaConf.create({}), FakeTokenizer()).run_single(data)

    graded = asyncio.run(run())["reward_extra_info"]
    assert (graded["id"], graded["problem_type"], graded["accuracy"]) == ("", "multiple choice", 1.0)


def test_each_prompt_of_a_validation_is_a_question():
    rows = [
        {"data_source": "mine", "id": "", "uid": f"{prompt}_{session}_0", "accuracy": 1.0}
        for prompt in "ab"
        for session in (0, 1)
    ]
    found = dumps.of_validation(rows, step=0)
    assert [(group["uid"], group["id"], len(group["responses"])) for group in found] == [("a", "", 2), ("b", "", 2)]
    assert dumps.means(0, found)["mine"]["questions"] == 2


def test_prompts_of_a_step_are_named_by_their_uids():
    graded = {uid: {"reward_extra_info": {"data_source": "mine", "id": ""}} for uid in "abcd"}
    names = {uid: _name(extra, uid) for uid, extra in graded.items()}
    assert len(set(names.values())) == 4
    assert sorted(groups.choose(names, groups.ALL)) == sorted(graded)
    assert groups.choose(names, groups.ALL) != sorted(graded)  # no tie, which the order of the uids would settle


def without_id(text: str, id: str | None = None) -> dict:
    return rl_row(data_source="mine", text=text, ground_truth="A", id=id, problem_type="multiple choice",
                  options=["stir", "pour"])  # fmt: skip


def write(path: Path, *rows: dict) -> Path:
    pq.write_table(pa.Table.from_pylist(rows, RL_SCHEMA), path)
    return path


@pytest.mark.parametrize("id", [None, ""])
def test_no_row_of_the_data_is_anyones(tmp_path, id):
    file = write(tmp_path / "val.parquet", without_id("What?", id), without_id("And then?", "7"))
    found, problems = data_rows.find([file], {("mine", ""), ("mine", "None"), ("mine", "7")}, Columns())
    assert (list(found), problems) == ([("mine", "7")], [])


def test_clips_stand_in_the_column_that_the_run_names(tmp_path):
    row = {**without_id("<video>What?", "7"), "clips": [{"video": "a.mp4"}]}
    file = tmp_path / "val.parquet"
    pq.write_table(pa.Table.from_pylist([row]), file)
    for config, clips in (
        ({"data": {"video_key": "clips"}}, ["a.mp4"]),
        ({"data": {"video_key": 3}}, []),
        ({"data": ["clips"]}, []),
        ({}, []),
    ):
        found, problems = data_rows.find([file], {("mine", "7")}, folders.data_columns(config))
        assert ([video["video"] for video in found["mine", "7"]["videos"]], problems) == (clips, [])


def test_a_page_shows_each_question(tmp_path):
    metrics(tmp_path / "metrics.jsonl", 1)
    file = write(tmp_path / "val.parquet", without_id("What?", ""), without_id("And then?", ""))
    (tmp_path / "config.yaml").write_text(f"data: {{val_files: {file}}}\n")
    for step in (0, 5):
        rows = (validated("", 1.0, "mine", input=text, uid=f"{text}{step}_0_0") for text in ("What?", "And then?"))
        dump(tmp_path / "validation", step, *rows)
    payload = collect([tmp_path])
    assert sorted(question["prompt"] for question in payload["questions"]) == ["And then?", "What?"]
    assert [question["options"] for question in payload["questions"]] == [[], []]
    assert sorted(group["step"] for group in payload["groups"]) == [0, 0, 5, 5]
    assert [entry["questions"] for entry in payload["runs"][0]["validation"]] == [2, 2]
