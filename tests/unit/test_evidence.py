"""The plan of the evidence, what is kept of a run, and the statistics over runs."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from rich.console import Console

from recipes.evidence import plan, runs, table
from recipes.evidence.plan import VARIANTS, Plan, Run
from recipes.evidence.warm_start import hole
from recipes.quickstart import stages


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_is_a_configuration(variant: str):
    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose("care_quickstart", Run(variant, 7).overrides(30))
    assert config.trainer.total_training_steps == 30
    assert config.data.seed == config.actor_rollout_ref.rollout.seed == 7


def test_variants_differ():
    with initialize_config_module("verl.trainer.config", version_base=None):
        made = [compose("care_quickstart", list(overrides)) for overrides in VARIANTS.values()]
    assert len({repr((c.care, c.actor_rollout_ref.actor)) for c in made}) == len(VARIANTS)


@pytest.mark.parametrize(
    ("own", "another", "none", "closed"),
    [
        (0.548, 0.186, 0.269, True),  # the warm start D of tried.md
        (0.763, 0.255, 0.760, False),  # the hole of the first study: what is no option is as good
        (0.6, 0.5, 0.2, False),
        (0.3, 0.1, 0.1, False),  # knows nothing
    ],
)
def test_a_warm_start_with_a_hole_is_refused(own: float, another: float, none: float, closed: bool):
    problem = hole({"the letter's option": own, "another option": another, "no option": none})
    assert (problem is None) == closed
    assert closed or "--seed" in str(problem)


def test_seed_by_seed():
    assert [run.name for run in Plan(("care", "no_kl"), (4, 5), 10)] == ["care_4", "no_kl_4", "care_5", "no_kl_5"]
    assert set(plan.FAST) <= set(VARIANTS)


def measures(accuracy: float, consistency: float) -> dict[str, float]:
    both = accuracy * consistency
    return {
        "accuracy": accuracy,
        "consistency": consistency,
        "right_reason": both,
        "right_contradicted": accuracy - both,
        "format": 1.0,
        "length": 20.0,
    }


def result(variant: str, seed: int, accuracy: float, consistency: float, steps: int = 40) -> dict:
    before, after = (dict.fromkeys(("L1", "L2", "L3"), measures(*m)) for m in ((0.4, 0.5), (accuracy, consistency)))
    training = {"step": [20, 40]} | {name: [0.5, None] for name in runs.CURVES}
    validation = [{"step": 0} | before, {"step": steps} | after]
    return {"variant": variant, "seed": seed, "steps": steps, "validation": validation, "training": training}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for variant, seed, accuracy, consistency in (
        ("care", 0, 0.8, 0.9),
        ("care", 1, 0.7, 0.7),
        ("no_kl", 0, 0.7, 0.4),
        ("no_kl", 1, 0.8, 0.4),
        ("no_kl", 2, 0.1, 0.1),  # has no partner
    ):
        (tmp_path / f"{variant}_{seed}.json").write_text(json.dumps(result(variant, seed, accuracy, consistency)))
    return tmp_path


def test_differences_are_paired_by_seed(folder: Path):
    results = table.read_results(folder)
    found = table.paired(results, "care", "no_kl", "L2", "consistency")
    assert found is not None
    # .5 and .3: mean .4, standard deviation .1 sqrt 2, over sqrt 2 is .1; t(.975, 1 degree) is 12.706
    assert found.mean == pytest.approx(0.4)
    assert found.error == pytest.approx(0.1)
    assert found.half_width == pytest.approx(1.2706, abs=1e-4)
    assert table.paired(results, "care", "grpo", "L1", "accuracy") is None


def test_one_run_alone_has_no_error():
    found = table.estimate([0.5])
    assert found.mean == 0.5
    assert math.isnan(found.error)
    assert math.isnan(found.half_width)
    assert table.shown(found) == "0.500"


def test_the_table_is_made_from_results_alone(folder: Path):
    text = table.markdown(table.read_results(folder))
    assert "| care | 2 | 0.750 ± 0.050 | 0.800 ± 0.100 |" in text
    assert "| warm start | 3 | 0.400 ± 0.000 |" in text
    assert "| no_kl | L1 | 2 | +0.000 ± 1.271 | +0.400 ± 1.271 |" in text
    table.draw(table.read_results(folder), folder / "curves.png")
    assert (folder / "curves.png").stat().st_size > 1000


def test_runs_of_different_lengths_are_no_table(folder: Path):
    (folder / "grpo_0.json").write_text(json.dumps(result("grpo", 0, 0.5, 0.5, steps=99)))
    with pytest.raises(ValueError, match=r"\[40, 99\]"):
        table.read_results(folder)


def test_a_point_of_a_curve_is_the_mean_of_its_steps():
    steps = [{"step": float(i), "accuracy": float(i > 20)} for i in range(1, 31)]
    steps[0]["auc"] = 0.5
    found = runs.curve(steps)
    assert found["step"] == [20, 30]
    assert found["accuracy"] == [0, 1]
    assert found["auc"] == [0.5, None]


def test_a_run_that_is_done_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    trained: list[str] = []

    def train(folder: Path, console: Console, overrides: list[str], minutes: float) -> None:
        trained.append(folder.name)
        assert (folder / "model").is_symlink()
        for step in (0, 6):
            dump = folder / f"training/validation/{step}.jsonl"
            dump.parent.mkdir(parents=True, exist_ok=True)
            row = {"input": "A. stir\nB. pour\n", "output": "", "gts": "A"}
            rows = [row | {"data_source": f"x/L{i}"} for i in (1, 2, 3)]
            dump.write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / "training/global_step_6").mkdir(exist_ok=True)
        if len(trained) == 2:
            raise stages.StageFailed("killed")

    monkeypatch.setattr(stages, "train", train)
    monkeypatch.setattr(stages, "merge", lambda folder, console: (folder / "merged").mkdir(exist_ok=True))
    monkeypatch.setattr(runs, "examine", lambda model, data: {"greedy": {}, "probe": {}})
    monkeypatch.setattr(runs, "write_data", lambda out, console: None)
    monkeypatch.setattr(runs, "warm_start", lambda out, seed, console: None)
    reported: list[str] = []
    arguments = (Plan(("no_kl", "care"), (3,), 6), tmp_path / "out", tmp_path / "results", Console(quiet=True))
    with pytest.raises(stages.StageFailed):
        runs.make(*arguments, done=lambda run: reported.append(run.name))
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["no_kl_3.json"]
    runs.make(*arguments, done=lambda run: reported.append(run.name))
    assert trained == ["no_kl_3", "care_3", "care_3"]
    assert reported == ["no_kl_3", "no_kl_3", "care_3"]
    assert not list((tmp_path / "out").rglob("global_step_*"))
    assert json.loads((tmp_path / "results/care_3.json").read_text())["steps"] == 6
