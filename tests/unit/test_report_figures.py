"""Which runs are seeds of one setting, what an interval over them is, and that pictures are made of what is there."""

from __future__ import annotations

import json

import numpy as np
import pytest

from verl_care.records import groups, jsonl
from verl_care.report import figures
from verl_care.report.payload import Metric, Run
from verl_care.report.seeds import band, settings_of, smoothed


def curve(*values: float | None, start: int = 1) -> Metric:
    return {"steps": list(range(start, start + len(values))), "values": list(values)}


def run(name: str, **config) -> Run:
    home = f"/runs/{name}/training"
    common = {"trainer.experiment_name": name, "trainer.default_local_dir": home, "data.files": f"/runs/{name}/a"}
    return {"name": name, "folder": home, "config": {**common, **config}, "metrics": {}, "validation": []}


def test_a_mean_and_its_interval():
    found = band([curve(1.0, 2.0), curve(3.0, 2.0), curve(5.0)])
    assert found.mean.tolist() == [3, 2]
    # step 1: 1, 3, 5 have s = 2, and t(0.975, 2) = 4.3027: 4.3027 * 2 / sqrt(3) = 4.9683; step 2: s = 0
    assert (found.high - found.mean).tolist() == pytest.approx([4.9683, 0], abs=1e-3)
    assert (found.mean - found.low).tolist() == pytest.approx([4.9683, 0], abs=1e-3)


def test_one_run_has_no_interval():
    found = band([curve(1.0, 2.0)])
    assert found.mean.tolist() == [1, 2]
    assert np.isnan(found.low).all()
    assert np.isnan(found.high).all()


def test_a_running_mean():
    # (1), (1 + 2) / 2, (2 + 6) / 2; what is missing is passed over
    assert smoothed(curve(1.0, 2.0, None, 6.0), 2) == {1: 1, 2: 1.5, 4: 4}


def test_runs_that_differ_in_their_seed_are_one_setting():
    runs = [run("a", **{"data.seed": 1}), run("b", **{"data.seed": 2}), run("c", **{"data.seed": 1, "care.bonus": "x"})]
    runs[0]["config"]["care.bonus"] = runs[1]["config"]["care.bonus"] = "hard"
    assert settings_of(runs) == [("bonus=hard", (0, 1)), ("bonus=x", (2,))]


def test_runs_without_a_configuration_stand_alone():
    runs = [{**run("a"), "config": {}}, {**run("b"), "config": {}}]
    assert settings_of(runs) == [("a", (0,)), ("b", (1,))]  # type: ignore[arg-type]
    assert settings_of([run("a")]) == [("a", (0,))]


def test_a_setting_that_takes_too_many_words_has_its_runs_name():
    runs = [run("a", key="x" * 30), run("b", key="y" * 50)]
    assert [setting.label for setting in settings_of(runs)] == ["a", "b"]


@pytest.fixture
def seeds(tmp_path):
    folders = []
    for seed in (1, 2):
        folder = tmp_path / f"$x_{{seed {seed}"  # no formula, and no name that hides a line
        folder.mkdir()
        (folder / "config.yaml").write_text(json.dumps({"data": {"seed": seed}}))
        jsonl.append(
            folder / "metrics.jsonl",
            ({"step": step, "data": {"care/accuracy": step / 20 + seed / 50}} for step in range(1, 13)),
        )
        responses = [
            {"selected": True, "likelihood": 0.9, "bonus": 0.5, "accuracy": 1.0, "measures": {"contradiction": 1.0}},
            {"selected": True, "likelihood": 0.2, "bonus": 0.0, "accuracy": 1.0, "measures": {"contradiction": 0.0}},
        ]
        lines = [{"kind": "group", "step": s, "id": str(s), "uid": str(s), "responses": responses} for s in (1, 2)]
        jsonl.append(folder / groups.NAME, lines)
        folders.append(folder)
    return folders


def test_pictures_of_what_is_there(seeds, tmp_path):
    written = figures.write(seeds, tmp_path / "figures")
    # nothing was validated twice: no curve of it
    assert sorted(path.name for path in written) == [
        "bonus.pdf", "bonus.png", "curves.pdf", "curves.png", "likelihood.pdf", "likelihood.png",
    ]  # fmt: skip
    for path in written:
        assert path.read_bytes().startswith(b"%PDF" if path.suffix == ".pdf" else b"\x89PNG")


def test_and_none_of_nothing(tmp_path):
    (tmp_path / "config.yaml").touch()
    assert figures.write([tmp_path], tmp_path / "figures") == []


def test_which_measure_says_that_a_response_is_consistent():
    def of(**measures):
        return figures.consistent({"measures": measures})  # type: ignore[typeddict-item]

    assert of(contradiction=0.0, **{"judge-qwen-v1": 1.0}) is True  # a judge is worth more
    assert of(contradiction=0.0, **{"judge-qwen-v1": None}) is False
    assert of(**{"likelihood-base": 1.0}) is None
    assert of() is None
