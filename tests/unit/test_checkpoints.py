"""A checkpoint is complete or it is none, wherever in its writing the run was killed."""

import json
import shutil
from pathlib import Path

import pytest

from verl_care.checkpoints.folders import (
    MARK,
    REFERENCE,
    keep_newest,
    latest_complete,
    mark_complete,
    missing_files,
    remove_orphans,
    step_of,
)

# two ranks: verl's three files a rank, our shard a rank, the data loader; by hand
FILES = [
    "data.pt",
    "actor/model_world_size_2_rank_0.pt",
    "actor/model_world_size_2_rank_1.pt",
    "actor/optim_world_size_2_rank_0.pt",
    "actor/optim_world_size_2_rank_1.pt",
    "actor/extra_state_world_size_2_rank_0.pt",
    "actor/extra_state_world_size_2_rank_1.pt",
    "reference/reference_world_size_2_rank_0.safetensors",
    "reference/reference_world_size_2_rank_1.safetensors",
]


def save(root: Path, step: int, files=FILES, **mark) -> Path:
    folder = root / f"global_step_{step}"
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    mark_complete(folder, **{"world_size": 2, "has_reference": True, **mark})
    return folder


def test_a_complete_checkpoint(tmp_path):
    folder = save(tmp_path, 4)
    assert missing_files(folder) == []
    assert missing_files(str(folder)) == []
    assert latest_complete(tmp_path) == (folder, {})
    assert not list(folder.rglob("*.unfinished"))


def test_one_without_a_reference(tmp_path):
    folder = save(tmp_path, 4, files=FILES[:-2], has_reference=False)
    assert missing_files(folder) == []
    mark_complete(folder, world_size=2, has_reference=True)
    assert missing_files(folder) == FILES[-2:]


def test_of_another_number_of_ranks(tmp_path):
    folder = save(tmp_path, 4, world_size=3)
    assert len(missing_files(folder)) == 3 * 4  # every file's name tells the number of ranks


@pytest.mark.parametrize("name", [*FILES, MARK])
def test_killed_before_a_file_was_written(tmp_path, name):
    earlier, folder = save(tmp_path, 2), save(tmp_path, 4)
    (folder / name).unlink()
    assert missing_files(folder) == [name]
    assert latest_complete(tmp_path) == (earlier, {"global_step_4": [name]})


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_lost_its_content(tmp_path, name):
    folder = save(tmp_path, 4)
    (folder / name).write_bytes(b"")
    assert missing_files(folder) == [name]


@pytest.mark.parametrize(
    "text",
    ["", "{", '{"world_size": 2', "null", "[]", "2", '{"world_size": 2}', '{"has_reference": true}', "\x00" * 40]
    + [json.dumps({"world_size": bad, "has_reference": True}) for bad in (None, "two", [2])],
)
def test_a_mark_that_cannot_be_read(tmp_path, text):
    earlier, folder = save(tmp_path, 2), save(tmp_path, 4)
    (folder / MARK).write_text(text)
    assert missing_files(folder) == [MARK]
    assert latest_complete(tmp_path) == (earlier, {"global_step_4": [MARK]})


def test_a_mark_that_is_no_text(tmp_path):
    folder = save(tmp_path, 4)
    (folder / MARK).write_bytes(b"\xff\xfe\x00")
    assert missing_files(folder) == [MARK]
    (folder / MARK).unlink()
    (folder / MARK).mkdir()
    assert missing_files(folder) == [MARK]


def test_killed_while_the_mark_was_written(tmp_path):
    folder = save(tmp_path, 4)
    (folder / MARK).rename(folder / (MARK + ".unfinished"))
    assert missing_files(folder) == [MARK]
    mark_complete(folder, world_size=2, has_reference=True)  # and saved again
    assert missing_files(folder) == []


def test_the_newest_by_number_not_by_name(tmp_path):
    save(tmp_path, 9)
    newest = save(tmp_path, 10)
    assert latest_complete(tmp_path)[0] == newest


def test_only_newer_incomplete_ones_are_told(tmp_path):
    for step in (1, 5, 7):
        save(tmp_path, step)
    for step in (1, 7):
        (tmp_path / f"global_step_{step}" / "data.pt").unlink()
    assert latest_complete(tmp_path) == (tmp_path / "global_step_5", {"global_step_7": ["data.pt"]})


def test_nothing_there(tmp_path):
    assert latest_complete(tmp_path) == (None, {})
    assert latest_complete(tmp_path / "nowhere") == (None, {})
    assert missing_files(tmp_path / "nowhere") == [MARK]


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("global_step_0", 0),
        ("global_step_120", 120),
        ("global_step_", None),
        ("global_step_-1", None),
        ("global_step_1.5", None),
        ("global_step_12_old", None),
        ("global_step_12 (copy)", None),
        ("old_global_step_12", None),
        ("global_step_²", None),  # a digit to str.isdigit, and no number to int
        ("tensorboard", None),
        ("", None),
    ],
)
def test_names_of_folders(tmp_path, name, step):
    assert step_of(tmp_path / name) == step


def test_strange_neighbours_are_passed_over(tmp_path):
    folder = save(tmp_path, 4)
    for name in ("global_step_99_old", "global_step_x", "tensorboard"):
        shutil.copytree(folder, tmp_path / name)
    (tmp_path / "global_step_50").write_text("a file")
    (tmp_path / "latest_checkpointed_iteration.txt").write_text("")
    (tmp_path / "global_step_60").symlink_to(tmp_path / "nowhere")
    assert latest_complete(tmp_path) == (folder, {})


class TestOrphans:
    def test_the_reference_goes_with_its_actor(self, tmp_path):
        kept, dropped, foreign = save(tmp_path, 4), save(tmp_path, 2), save(tmp_path, 1)
        shutil.rmtree(dropped / "actor")  # verl keeps the newest max_actor_ckpt_to_keep
        shutil.rmtree(foreign / "actor")
        (foreign / MARK).unlink()  # not one of ours
        assert remove_orphans(tmp_path) == ["global_step_2"]
        assert not (dropped / REFERENCE).exists()
        assert not (dropped / MARK).exists()
        assert missing_files(kept) == []
        assert (foreign / REFERENCE).exists()
        assert remove_orphans(tmp_path) == []

    def test_killed_while_removing(self, tmp_path, monkeypatch):
        dropped = save(tmp_path, 2)
        shutil.rmtree(dropped / "actor")

        def killed(path, **_):
            (Path(path) / "reference_world_size_2_rank_0.safetensors").unlink()
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr("verl_care.checkpoints.folders.shutil.rmtree", killed)
            with pytest.raises(KeyboardInterrupt):
                remove_orphans(tmp_path)
        assert remove_orphans(tmp_path) == ["global_step_2"]  # the next save finds the rest
        assert not (dropped / REFERENCE).exists()

    def test_what_cannot_be_removed_is_told_and_tried_again(self, tmp_path, monkeypatch, caplog):
        first, second, third = (save(tmp_path, step) for step in (1, 2, 3))

        def refused(path, **_):
            raise PermissionError(1, "Operation not permitted")

        with monkeypatch.context() as patch:
            patch.setattr("verl_care.checkpoints.folders.shutil.rmtree", refused)
            assert keep_newest([first, second, third], 2) == [second, third]
            assert remove_orphans(tmp_path) == []  # the actor is still there
            assert "global_step_1/actor: this part of an old checkpoint cannot be removed" in caplog.text
            shutil.move(first / "actor", tmp_path / "elsewhere")
            assert remove_orphans(tmp_path) == []
            assert "global_step_1/reference: this part" in caplog.text
        assert remove_orphans(tmp_path) == ["global_step_1"]
        assert keep_newest([second, third], 2) == [second, third]
        for every in (None, 0, -1):  # verl keeps all where the number is below 1
            assert keep_newest([second, third], every) == [second, third]
            assert missing_files(second) == missing_files(third) == []
