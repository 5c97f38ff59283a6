"""What verl is asked: the questions with samples missing, and of each as many as are missing."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf

from data_prep.common.schema import RL_SCHEMA, rl_row
from recipes.quickstart.model import build_processor
from verl_care.evaluation.generate.dataset import SAMPLES, EvaluationDataset
from verl_care.evaluation.generate.questions import Question
from verl_care.evaluation.rows import append_rows


@pytest.fixture(scope="module")
def processor():
    return build_processor()


@pytest.fixture
def make(tmp_path, processor):
    def make(samples=2, retry_failed=False, bare=None, **data):
        rows = [
            rl_row(
                data_source="d", text=f"{'<video>' if i == bare else ''}Question {i}?", ground_truth="A", id=str(i),
                index=i, problem_type="numerical", question=f"Question {i}?", options=[],
            )
            for i in range(4)
        ]  # fmt: skip
        pq.write_table(pa.Table.from_pylist(rows, schema=RL_SCHEMA), tmp_path / "four.parquet")
        config = {
            "evaluation": {"run": str(tmp_path / "run"), "samples": samples, "retry_failed": retry_failed},
            "cache_dir": str(tmp_path / "cache"), "filter_overlong_prompts": False, "max_prompt_length": 64,
            "shuffle": False, **data,
        }  # fmt: skip
        max_samples = data.get("val_max_samples", -1)
        return EvaluationDataset(
            [str(tmp_path / "four.parquet")], processor.tokenizer, OmegaConf.create(config), processor, max_samples
        )

    def answer(i, sample, failure=None):
        question = Question("d", str(i), "numerical", "A", f"Question {i}?", ())
        row = question.failed(sample, failure, "") if failure else question.answered(sample, "t", "stop", 1, "")
        append_rows(tmp_path / "run", [row])

    make.answer = answer
    return make


def asked(dataset):
    rows = [dataset[place] for place in range(len(dataset))]
    return {row["extra_info"]["id"]: (row["extra_info"][SAMPLES], row["__rollout_n__"]) for row in rows}


def test_at_the_first_start_everything(make):
    assert asked(make()) == {str(i): ([0, 1], 2) for i in range(4)}


def test_then_what_is_missing(make):
    for i, sample in ((0, 0), (0, 1), (1, 0), (2, 1)):
        make.answer(i, sample)
    assert asked(make()) == {"1": ([1], 1), "2": ([0], 1), "3": ([0, 1], 2)}


def test_failures_are_asked_again_on_demand(make):
    make.answer(0, 0, "media: gone")
    make.answer(1, 0)
    assert list(asked(make(samples=1))) == ["2", "3"]
    assert list(asked(make(samples=1, retry_failed=True))) == ["0", "2", "3"]


def test_a_question_without_its_clip_never_reaches_verl(make):
    make.answer(2, 0, "media: 1 <video> in prompt, and 0 in videos (data.video_key)")
    assert list(asked(make(samples=1, bare=2))) == ["0", "1", "3"]
    assert list(asked(make(samples=1, bare=2, retry_failed=True))) == ["0", "1", "3"]


def test_the_first_ones(make):
    make.answer(0, 0)
    assert list(asked(make(samples=1, val_max_samples=2))) == ["1"]


def test_the_rest_of_a_row_is_verls(make):
    row = make()[3]
    assert row["raw_prompt"] == [{"role": "user", "content": "Question 3?"}]
    assert Question.of(row).key == ("d", "3")
