"""What recipes/lmms_eval shows to a model and makes of its response, without lmms-eval."""

from __future__ import annotations

import json
import math
from importlib import util
from pathlib import Path
from types import ModuleType

import pytest
from datasets import Dataset

from data_prep import miniature
from data_prep.common.media import MediaRoot
from data_prep.seed_bench_r1 import verl_row
from data_prep.seed_bench_schema import check_row

FOLDER = Path(__file__).parents[2] / "recipes" / "lmms_eval"


def load_utils() -> ModuleType:
    """As lmms-eval loads what `!function utils.name` names."""
    spec = util.spec_from_file_location("utils", FOLDER / "utils.py")
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    world = tmp_path_factory.mktemp("world")
    miniature.write_world(world, seed=0, rows=1, level_rows=16)
    return world


@pytest.fixture
def utils(world: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("SEED_BENCH_R1_ROOT", str(world))
    monkeypatch.delenv("SEED_BENCH_R1_PROMPT", raising=False)
    return load_utils()


def annotations(world: Path, level: str) -> list[str]:
    return (world / "annotations" / f"validation_{level}.jsonl").read_text().splitlines()


@pytest.mark.parametrize("wording", ["released", "plain"])
@pytest.mark.parametrize("level", ["L1", "L2", "L3"])
def test_a_question_is_shown_as_our_converter_has_it(utils, world, level, wording, monkeypatch):
    """Clip (where there is progress), image and text: those of the row that verl would get, in its order."""
    monkeypatch.setenv("SEED_BENCH_R1_PROMPT", wording)
    lines = annotations(world, level)
    shown = utils.questions(Dataset.from_dict({"text": lines}))
    with_clip = 0
    for index, (line, doc) in enumerate(zip(lines, shown, strict=True)):
        example = check_row(json.loads(line), MediaRoot(world), seed=0, training=False)
        row = verl_row(example, level, index, wording)
        (message,) = utils.messages(doc)
        *media, text = message["content"]
        kinds = "".join(f"<{part['type']}>" for part in media)
        assert kinds + text["text"] == row["prompt"][0]["content"]
        assert [part["url"] for part in media] == [v["video"] for v in row["videos"]] + [
            i["image"] for i in row["images"]
        ]
        assert len(utils.visuals(doc)) == len(media)
        assert doc["answer"] == row["reward_model"]["ground_truth"]
        with_clip += len(row["videos"])
    if level == "L1":
        assert 0 < with_clip < len(lines)  # both kinds of question were looked at


def test_the_wording_is_the_release_s_for_evaluation(utils, world):
    (doc,) = utils.questions(Dataset.from_dict({"text": annotations(world, "L1")[:1]}))
    assert "between the <think> and </think> tags" in doc["prompt"]
    assert "?Options:\nA. " in doc["prompt"]


# (response, accuracy, format, no answer, no response) for the truth B
RESPONSES = [
    ("<think> so peel </think>\n<answer>B</answer>", 1.0, 1.0, 0.0, 0.0),
    ("<think> <answer>B</answer> </think>\n<answer>A</answer>", 1.0, 1.0, 0.0, 0.0),  # the first closed block counts
    ("<think> so peel </think>\n<answer>A</answer>", 0.0, 1.0, 0.0, 0.0),
    ("<answer> B </answer>", 1.0, 0.0, 0.0, 0.0),
    ("<think>x</think><answer>B.</answer>", 0.0, 1.0, 0.0, 0.0),
    ("<think>x</think><answer></answer>", 0.0, 1.0, 1.0, 0.0),
    ("<think> so peel </think>\n<answer>B", 0.0, 0.0, 1.0, 0.0),
    ("", 0.0, 0.0, 1.0, 1.0),
]


@pytest.mark.parametrize(("response", "accuracy", "form", "no_answer", "no_response"), RESPONSES)
def test_scores(utils, response, accuracy, form, no_answer, no_response):
    expected = {"accuracy": accuracy, "format": form, "no_answer": no_answer, "no_response": no_response}
    assert utils.scores({"answer": "B", "domain": ""}, [response]) == expected


def test_a_question_of_l3_counts_in_its_domain_alone(utils):
    right = "<think>x</think><answer>B</answer>"
    # right, wrong in daily life; right in work: 1/2, nothing, nothing, 1
    asked = [("B", "daily life", right), ("A", "Daily life", right), ("B", "Work", right)]
    found = [utils.scores({"answer": truth, "domain": domain}, [response]) for truth, domain, response in asked]
    means = {name: utils.mean_known([one[f"accuracy_{name}"] for one in found]) for name in utils.DOMAINS}
    assert means["daily"] == 0.5
    assert means["work"] == 1.0
    assert math.isnan(means["hobbies"])
    assert math.isnan(means["recreation"])


def test_a_row_that_cannot_be_used_stops_the_run_and_is_named(utils, world):
    good, bad = annotations(world, "L1")[:2]
    bad = json.dumps(json.loads(bad) | {"current_observation_basename": "lost.png"})
    with pytest.raises(SystemExit, match=r"line 2 .*current_observation_basename: does not exist"):
        utils.questions(Dataset.from_dict({"text": [good, bad]}))
    with pytest.raises(SystemExit, match="line 1 "):
        utils.questions(Dataset.from_dict({"text": ["{no json"]}))


def test_settings_that_are_missing_or_wrong_are_named(utils, world, tmp_path, monkeypatch):
    assert utils.source_L2 == {"data_files": {"test": str(world / "annotations" / "validation_L2.jsonl")}}
    monkeypatch.setenv("SEED_BENCH_R1_PROMPT", "loud")
    with pytest.raises(ValueError, match="SEED_BENCH_R1_PROMPT='loud': known are released, plain"):
        utils.questions(Dataset.from_dict({"text": []}))
    monkeypatch.setenv("SEED_BENCH_R1_ROOT", str(tmp_path))
    with pytest.raises(ValueError, match=r"has no annotations/validation_L1\.jsonl"):
        _ = load_utils().source_L1
    monkeypatch.delenv("SEED_BENCH_R1_ROOT")
    with pytest.raises(ValueError, match="SEED_BENCH_R1_ROOT is not set"):
        _ = load_utils().source_L1
    with pytest.raises(AttributeError):
        _ = utils.source_L4


def test_the_task_samples_as_the_release_and_scores_the_whole_response():
    lmms = pytest.importorskip("lmms_eval.utils", reason="lmms-eval is in the extra `dev`")
    for level in ("l1", "l2", "l3"):
        config = lmms.load_yaml_config(str(FOLDER / f"seed_bench_r1_{level}.yaml"), mode="simple")
        settings = config["generation_kwargs"]
        assert (settings["do_sample"], settings["temperature"], settings["top_p"]) == (True, 0.1, 0.001)
        assert settings["max_new_tokens"] == 1024
        assert settings["until"] == []
        assert config["reasoning_tags"] == "none"
