"""What a page says of an evaluation and of settings: accuracies are those of `score`, and nothing is a secret."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.common.schema import RL_SCHEMA, rl_row, video_entry
from tests.unit.clips import write_clip
from tests.unit.evaluated import a_row, answered, scored
from verl_care.evaluation import rows as evaluation
from verl_care.evaluation.rows import Key, Measured, Row
from verl_care.evaluation.scoring.intervals import Bootstrap
from verl_care.evaluation.scoring.summary import mean_score
from verl_care.report.collect import collect
from verl_care.report.folders import flattened


def test_an_evaluation(tmp_path):
    row = Row("bench/L1", "0", 0, "multiple choice", "A", "What next?", ("A. stir",),
              "<think>x</think><answer>A</answer>", "stop", 9)  # fmt: skip
    failed = Row("bench/L1", "1", 0, "multiple choice", "A", "And then?", (), None, None, None, failure="media: gone")
    evaluation.append_rows(tmp_path, [row, failed])
    evaluation.append_measures(tmp_path, "contradiction", [Measured(Key("bench/L1", "0", 0), 1.0)])
    settings = {"model": "f1n9e4", "data.video.max_frames": 4, "judge": {"api_key": "s3cret"}}
    (tmp_path / "settings.json").write_text(json.dumps({"key": "k", "model": "qwen", "settings": settings}))
    data = rl_row(data_source="bench/L1", text="What next?", ground_truth="A", id="0",
                  videos=[video_entry(write_clip(tmp_path / "a.mp4"))])  # fmt: skip
    pq.write_table(pa.Table.from_pylist([data], RL_SCHEMA), tmp_path / "val.parquet")
    payload = collect([tmp_path], data=[tmp_path / "val.parquet"])
    # a page is handed on: no secret is in it
    assert payload["runs"][0]["config"] == {
        "model": "qwen", "model fingerprint": "f1n9e4", "data.video.max_frames": 4,
    }  # fmt: skip
    assert len(payload["questions"][0]["clips"][0]["frames"]) == 4
    assert payload["questions"][0]["options"] == ["A. stir"]
    (entry,) = payload["runs"][0]["validation"]
    assert entry["questions"] == 2
    # an answer that failed counts as a wrong one
    assert entry["values"] == {"accuracy": 0.5, "format": 0.5, "consistency_contradiction": 1.0}
    first = payload["groups"][0]
    assert (first["step"], first["split"]) == (0, "validation")
    assert first["responses"][0]["measures"] == {"contradiction": 1.0}


CHOICE, FREE, NUMBER, REAL = "multiple choice", "free-form", "regression", "numerical"


@pytest.mark.parametrize(
    ("kind", "truth", "responses", "accuracies"),
    [
        (CHOICE, "A", [answered("A"), answered("B"), "A", "so A", None], [1, 0, 1, 0, 0]),  # no block: taken whole
        (CHOICE, "A", [answered("\ud800"), answered(" ")], [0, 0]),
        (NUMBER, "8", [answered("7"), "8", answered("none")], [0.8, 1, 0]),  # trained on: 0.875, 0, 0
        (REAL, "3.0", [answered("3.00"), answered("3"), "3.0"], [1, 0, 1]),
        (FREE, "a pan", [answered("a pan"), None], [None, None]),  # `score` has no rule for it
        ("essay", "a pan", [answered("a pan")], [None]),
    ],
)
def test_accuracies_are_those_of_score(
    tmp_path: Path, kind: str, truth: str, responses: list[str | None], accuracies: list[float | None]
) -> None:
    rows = [a_row(str(n), text, truth, problem_type=kind) for n, text in enumerate(responses)]
    evaluation.append_rows(tmp_path, rows)
    table = scored(*rows)
    mean = mean_score(table, "exact", np.ones(len(rows), dtype=bool), Bootstrap(resamples=2))
    payload = collect([tmp_path])
    ids = [payload["questions"][group["question"]]["id"] for group in payload["groups"]]
    shown = dict(zip(ids, (group["responses"][0]["accuracy"] for group in payload["groups"]), strict=True))
    assert [shown[row.id] for row in rows] == accuracies
    assert table.scores["exact"].tolist() == pytest.approx(
        [float("nan") if accuracy is None else accuracy for accuracy in accuracies], nan_ok=True
    )
    (entry,) = payload["runs"][0]["validation"]
    assert entry["values"].get("accuracy") == (None if mean is None else pytest.approx(mean.mean))


def test_settings_are_scalars():
    config = {"a": {"b": 1, "c": [1, "x"], "api_key": "s"}, "d": True, "e": 0.5, "f": None, "g": 10**400}
    assert dict(flattened(config)) == {"a.b": 1, "a.c": '[1, "x"]', "d": True, "e": 0.5, "f": None, "g": None}


@pytest.mark.parametrize(
    "config",
    [
        {"api_key": "s3cret"},
        {"judge.api_key": "s3cret"},
        {"WANDB_API_KEY": "s3cret"},
        {"a": {"hf_token": "s3cret", "Password": "s3cret", "passwd": "s3cret", "token": "s3cret"}},
        {"hub.token": "s3cret", "access_token_file": "s3cret", "client_secret": "s3cret"},
        {"credentials": {"user": "s3cret"}, "ssh_private_key": ["s3cret"]},
        {"ray_init": {"runtime_env": {"env_vars": {"HF_TOKEN": "s3cret", "PROXY": "http://me:s3cret@host"}}}},
        {"ray_init.runtime_env.env_vars.PROXY": "http://me:s3cret@host"},
        {"judges": [{"api_key": "s3cret"}, {"headers": [[{"env_vars": {"A": "s3cret"}}], {"HF_TOKEN": "s3cret"}]}]},
    ],
)
def test_a_page_holds_no_secret(config: dict[str, Any]) -> None:
    assert "s3cret" not in json.dumps(dict(flattened({**config, "seed": 1})))
    assert dict(flattened({**config, "seed": 1}))["seed"] == 1


def test_what_only_sounds_like_one_stays() -> None:
    config = {
        "max_token_len": 1, "tokenizer": "a", "num_tokens": 2, "eos_token_id": 3, "balance_dp_token_len": 4,
        "skip_tokenizer_init": True, "judges": [{"model": "a", "max_tokens": 5, "api_key": "s"}, ["x", {1: None}]],
    }  # fmt: skip
    judges = '[{"model": "a", "max_tokens": 5}, ["x", {"1": null}]]'
    assert dict(flattened(config)) == {**config, "judges": judges}
