"""The plan of the evidence, its warm starts, and that its runs are done once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from rich.console import Console

from recipes.evidence import plan, runs
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

    def warm_start(out: Path, seed: int, console: Console) -> None:
        model = out / "models" / str(seed)
        model.mkdir(parents=True, exist_ok=True)
        shutil.copy(stages.CHECKPOINT / "tokenizer.json", model)

    monkeypatch.setattr(stages, "train", train)
    monkeypatch.setattr(stages, "merge", lambda folder, console: (folder / "merged").mkdir(exist_ok=True))
    monkeypatch.setattr(runs, "examine", lambda model, data: {"greedy": {}, "probe": {}})
    monkeypatch.setattr(runs, "write_data", lambda out, console: None)
    monkeypatch.setattr(runs, "warm_start", warm_start)
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
