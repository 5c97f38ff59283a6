"""Where a run goes on: `folders.py` says which folders are whole, `resume.py` what follows from it."""

from __future__ import annotations

from typing import Any

import pytest
from omegaconf import OmegaConf

from tests.unit.test_checkpoints import save
from verl_care.checkpoints import resume
from verl_care.checkpoints.folders import MARK, latest_complete
from verl_care.evaluation.generate.trainer import EvaluationTrainer
from verl_care.trainer import CareTrainer


@pytest.fixture
def told(caplog):
    return lambda: [record.getMessage() for record in caplog.records]


def test_the_newest_complete_one_and_what_was_passed_over(tmp_path, told):
    complete, killed = save(tmp_path, 2), save(tmp_path, 10)
    (killed / MARK).unlink()
    assert resume.newest(tmp_path) == complete
    assert told() == [f"checkpoint global_step_10 is incomplete (no {MARK}): passed over"]


def test_none_at_all(tmp_path, told):
    assert resume.newest(tmp_path) is None
    assert told() == [f"no checkpoint in {tmp_path}: training starts at step 0"]


def test_only_incomplete_ones(tmp_path, told):
    (save(tmp_path, 4) / MARK).unlink()
    assert resume.newest(tmp_path) is None
    assert told()[-1] == f"only incomplete checkpoints in {tmp_path}: training starts at step 0"


def test_one_that_is_named(tmp_path):
    folder = save(tmp_path, 4)  # by two ranks
    resume.check(str(folder), ranks=2)
    with pytest.raises(ValueError, match=r"saved by 2 ranks, and this run has 4.*trainer\.n_gpus_per_node"):
        resume.check(str(folder), ranks=4)
    (folder / "data.pt").unlink()
    with pytest.raises(FileNotFoundError, match=r"global_step_4 is no complete .*: no data\.pt\. Name another"):
        resume.check(str(folder), ranks=2)


def test_what_lies_behind_a_start_is_set_aside(tmp_path, told):
    for step in (4, 8):
        save(tmp_path, step)
    killed = save(tmp_path, 9)
    (killed / MARK).unlink()  # nothing finds it, and the next save writes over it
    (tmp_path / "config.yaml").write_text("care: {}")
    (tmp_path / "metrics.jsonl").write_text("logged")
    for name in ("validation/0", "validation/4", "validation/8", "rollouts/4", "rollouts/5", "rollouts/notes"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.jsonl").write_text(name)
    resume.begin(tmp_path, 4)
    aside = tmp_path / "abandoned_1"
    assert told() == [f"training begins behind step 4: global_step_8, 2 dumps of an earlier branch moved to {aside}"]
    assert files(aside) == {"config.yaml", "validation/8.jsonl", "rollouts/5.jsonl"}
    assert latest_complete(aside)[0] == aside / "global_step_8"
    assert latest_complete(tmp_path)[0] == tmp_path / "global_step_4"
    left = {"config.yaml", "metrics.until_step_4.jsonl", "validation/0.jsonl", "validation/4.jsonl"}
    assert files(tmp_path) == left | {"rollouts/4.jsonl", "rollouts/notes.jsonl"}
    resume.begin(tmp_path, 4)  # the same again: nothing is left to move
    assert not (tmp_path / "abandoned_2").exists()
    resume.begin(tmp_path, 0)  # anew: not even the validation before it
    assert files(tmp_path) == {"config.yaml", "metrics.until_step_4.jsonl", "rollouts/notes.jsonl"}
    assert latest_complete(tmp_path)[0] is None
    assert (tmp_path / "abandoned_2/validation/0.jsonl").exists()


def files(root):
    """Outside of checkpoints."""
    found = [*root.glob("*.*"), *root.glob("validation/*"), *root.glob("rollouts/*")]
    return {str(path.relative_to(root)) for path in found}


def test_metrics_of_every_start_are_kept(tmp_path):
    log = tmp_path / "metrics.jsonl"
    for text in ("first", "second", "third"):
        log.write_text(text)
        resume.keep_metrics(log, 40)
    resume.keep_metrics(log, 40)  # killed before it logged anything
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "metrics.until_step_40.jsonl": "first",
        "metrics.until_step_40.2.jsonl": "second",
        "metrics.until_step_40.3.jsonl": "third",
    }


class TestAStartThatTrainsNothing:
    def test_has_the_folder_where_it_is_the_first(self, tmp_path):
        assert resume.beside(tmp_path) == tmp_path

    def test_leaves_the_records_of_others_be(self, tmp_path):
        (tmp_path / resume.CONFIG).touch()
        for number in (1, 2):
            root = resume.beside(tmp_path)
            assert root == tmp_path / f"val_only_{number}"
            root.mkdir()
        assert files(tmp_path) == {"config.yaml"}

    def test_its_dumps_lie_with_its_records(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        root = tmp_path / "run" / "val_only_1"
        folders = {"validation_data_dir": "run/validation", "rollout_data_dir": None}
        trainer = OmegaConf.create(folders)
        resume.move_dumps(trainer, tmp_path / "run", root)
        assert trainer == {**folders, "validation_data_dir": str(root / "validation")}
        elsewhere = OmegaConf.create({"validation_data_dir": "/scratch/dumps"})
        resume.move_dumps(elsewhere, tmp_path / "run", root)
        assert elsewhere == {"validation_data_dir": "/scratch/dumps"}


@pytest.mark.parametrize(("val_only", "name"), [(False, ""), (True, "val_only_1")])
def test_where_the_trainer_writes(tmp_path, val_only, name):
    (tmp_path / resume.CONFIG).touch()
    trainer: Any = object.__new__(CareTrainer)
    trainer.config = OmegaConf.create({"trainer": {"default_local_dir": str(tmp_path), "val_only": val_only}})
    assert trainer.record_root() == tmp_path / name
    trainer.__class__ = EvaluationTrainer
    assert trainer.record_root() == tmp_path
