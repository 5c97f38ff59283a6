"""At every moment of a run that has saved once there is a complete checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from tests.unit.test_checkpoints import FILES
from verl_care.checkpoints.folders import REFERENCE, latest_complete
from verl_care.checkpoints.saving import WholeCheckpoints
from verl_care.settings import CareConfigError


class Ranks:
    """Two of them; the second may not see what the trainer writes."""

    world_size = 2

    def __init__(self, share: bool = True):
        self.share = share
        self.loaded: str | None = None

    def save_reference(self, folder: str) -> None:
        write(Path(folder).parent, REFERENCE)

    def load_reference(self, folder: str) -> None:
        self.loaded = folder

    def sees(self, file: str) -> list[bool]:
        return [Path(file).exists(), self.share and Path(file).exists()]


class Verl:
    """Of verl's trainer, what saves and loads."""

    def __init__(self, config: DictConfig):
        self.config, self.global_steps, self.use_reference_policy = config, 0, True
        self.actor_rollout_wg = Ranks(share=not config.trainer.get("apart", False))
        self.complete_meanwhile: list[str | None] = []
        self.killed = False

    def _save_checkpoint(self) -> None:
        trainer = self.config.trainer
        assert trainer.max_actor_ckpt_to_keep is None, "verl would delete the one before"
        assert not trainer.get("remove_previous_ckpt_in_save", False), "the same"
        root = Path(trainer.default_local_dir)
        for part in ("actor", "data.pt"):
            write(root / f"global_step_{self.global_steps}", part)
            newest = latest_complete(root)[0]
            self.complete_meanwhile.append(newest and newest.name)
            if self.killed:
                raise KeyboardInterrupt

    def _load_checkpoint(self) -> None:
        if self.config.trainer.resume_mode == "resume_path":
            self.global_steps = int(self.config.trainer.resume_from_path.rpartition("_")[2])


def write(folder: Path, part: str) -> None:
    for name in FILES:
        if name.startswith(part):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(b"x")


class Trainer(WholeCheckpoints, Verl):
    pass


def trainer(folder: Path | str, keep: int | None = 1, **more) -> Trainer:
    own = {"default_local_dir": str(folder), "max_actor_ckpt_to_keep": keep, "resume_from_path": None, "nnodes": 1}
    made = Trainer(OmegaConf.create({"trainer": {**own, "resume_mode": "auto", **more}}))
    OmegaConf.set_struct(made.config, True)
    return made


def saved(trainer: Trainer, *steps: int) -> list[str]:
    """Save at these steps; the checkpoints that have an actor then."""
    for step in steps:
        trainer.global_steps = step
        trainer._save_checkpoint()
    return sorted(path.parent.name for path in trainer.checkpoint_root.glob("*/actor"))


def test_the_one_before_goes_when_the_next_is_complete(tmp_path):
    made = trainer(tmp_path)
    assert saved(made, 2, 4, 6) == ["global_step_6"]
    before = [None, "global_step_2", "global_step_4"]
    assert made.complete_meanwhile == [name for name in before for _ in range(2)]
    assert made.config.trainer.max_actor_ckpt_to_keep == 1
    assert not (tmp_path / "global_step_4" / REFERENCE).exists()


def test_a_run_killed_while_it_saves_goes_on_from_the_one_before(tmp_path):
    made = trainer(tmp_path)
    saved(made, 2)
    made.killed = True
    with pytest.raises(KeyboardInterrupt):
        saved(made, 4)
    again = trainer(tmp_path)
    again._load_checkpoint()
    assert again.global_steps == 2
    assert again.actor_rollout_wg.loaded == str(tmp_path / "global_step_2" / REFERENCE)


@pytest.mark.parametrize(
    ("keep", "more", "steps"),
    [
        (None, {}, [1, 2, 3]),
        (0, {}, [1, 2, 3]),
        (-1, {}, [1, 2, 3]),
        (2, {}, [2, 3]),
        (5, {}, [1, 2, 3]),
        (None, {"remove_previous_ckpt_in_save": True}, [3]),
    ],
)
def test_as_many_are_kept_as_asked_for(tmp_path, keep, more, steps):
    assert saved(trainer(tmp_path, keep, **more), 1, 2, 3) == [f"global_step_{step}" for step in steps]


def test_a_run_that_goes_on_keeps_no_more_than_one_that_did_not_stop(tmp_path):
    saved(trainer(tmp_path, keep=2), 2, 4, 6)
    again = trainer(tmp_path, keep=2)
    again._load_checkpoint()
    assert saved(again, 8) == ["global_step_6", "global_step_8"]


def test_what_was_kept_on_purpose_stays(tmp_path):
    saved(trainer(tmp_path, keep=None), 2, 4, 6)
    newest = trainer(tmp_path, keep=1)
    newest._load_checkpoint()
    assert saved(newest, 8) == ["global_step_2", "global_step_4", "global_step_8"]


def test_an_abandoned_branch_is_not_found_again(tmp_path, caplog):
    first = trainer(tmp_path, keep=None)
    saved(first, 2, 4, 6)
    earlier = trainer(tmp_path, resume_mode="resume_path", resume_from_path=f"{tmp_path}/global_step_2")
    earlier._load_checkpoint()
    assert earlier.goes_on_behind == 2
    assert f"behind step 2: global_step_4, global_step_6 of an earlier branch moved to {tmp_path}/aband" in caplog.text
    killed = trainer(tmp_path)  # before it saved anything, and started again with auto
    killed._load_checkpoint()
    assert killed.global_steps == 2
    assert saved(killed, 3) == ["global_step_3"]
    # what was set aside is whole, and one can go back to it
    back = trainer(tmp_path, resume_mode="resume_path", resume_from_path=f"{tmp_path}/abandoned_1/global_step_6")
    back._load_checkpoint()
    assert (back.global_steps, back.goes_on_behind) == (6, 0)  # nothing that this folder has led there
    assert latest_complete(tmp_path)[0] is None  # step 3 is of another branch than what this goes on from
    assert latest_complete(tmp_path / "abandoned_2")[0] == tmp_path / "abandoned_2" / "global_step_3"


def test_a_training_that_starts_anew_finds_nothing_of_the_one_before(tmp_path):
    saved(trainer(tmp_path, keep=None), 2, 4)
    trainer(tmp_path, resume_mode="disable")._load_checkpoint()
    again = trainer(tmp_path)
    again._load_checkpoint()
    assert again.global_steps == 0


def test_a_validation_of_an_earlier_step_abandons_nothing(tmp_path):
    saved(trainer(tmp_path, keep=None), 2, 4)
    place = f"{tmp_path}/global_step_2"
    trainer(tmp_path, resume_mode="resume_path", resume_from_path=place, val_only=True)._load_checkpoint()
    assert latest_complete(tmp_path)[0] == tmp_path / "global_step_4"


def test_a_start_from_elsewhere_removes_nothing(tmp_path):
    saved(trainer(tmp_path / "a"), 2)
    made = trainer(tmp_path / "b", resume_mode="resume_path", resume_from_path=f"{tmp_path}/a/global_step_2")
    made._load_checkpoint()
    assert saved(made, 4, 6) == ["global_step_6"]
    assert (tmp_path / "a/global_step_2/actor").exists()


def test_every_rank_is_told_the_same_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = trainer("runs/a", resume_from_path="runs/b/global_step_3")
    assert made.checkpoint_root == tmp_path / "runs/a"
    assert made.config.trainer.default_local_dir == str(tmp_path / "runs/a")
    assert made.config.trainer.resume_from_path == str(tmp_path / "runs/b/global_step_3")


def test_nodes_that_do_not_share_the_folder_are_refused(tmp_path):
    with pytest.raises(CareConfigError, match=r"default_local_dir=.*1 ranks \(1 the first\).*all nodes share"):
        trainer(tmp_path / "new", nnodes=2, apart=True)._load_checkpoint()
    together = trainer(tmp_path / "new", nnodes=2)
    together._load_checkpoint()
    assert together.global_steps == 0
    assert list((tmp_path / "new").iterdir()) == []
