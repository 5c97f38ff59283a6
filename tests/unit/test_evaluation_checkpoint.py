"""Any checkpoint becomes a folder, whole or not at all; and a model is known by its content."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from verl_care.evaluation.generate import checkpoint
from verl_care.evaluation.generate.checkpoint import BadCheckpoint, as_model, fingerprint, merged, name_of


class FakeMerger:
    """Writes what a merged folder needs, and counts."""

    calls = 0

    def __call__(self, actor: Path, target: Path) -> None:
        self.calls += 1
        target.mkdir()
        (target / "config.json").write_text("{}")
        shards = sorted(actor.glob("model_*.pt"))
        (target / "model.safetensors").write_bytes(b"".join(shard.read_bytes() for shard in shards))


@pytest.fixture
def merger(monkeypatch):
    fake = FakeMerger()
    monkeypatch.setattr(checkpoint.merged, "__defaults__", (fake,))
    return fake


@pytest.fixture
def step(tmp_path):
    """A checkpoint of two ranks, as verl leaves it."""
    actor = tmp_path / "runs" / "care" / "global_step_7" / "actor"
    (actor / "huggingface").mkdir(parents=True)
    for rank in (0, 1):
        (actor / f"model_world_size_2_rank_{rank}.pt").write_bytes(b"%d" % rank)
    return actor.parent


def test_a_hugging_face_folder_is_taken_as_it_is(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert as_model(str(tmp_path)) == str(tmp_path)


def test_a_name_of_the_hub_is_handed_on():
    assert as_model("Qwen/Qwen2.5-VL-7B-Instruct") == "Qwen/Qwen2.5-VL-7B-Instruct"


def test_a_training_checkpoint_is_merged_once(step, merger):
    target = step.with_name("global_step_7.merged")
    assert as_model(str(step)) == as_model(str(step / "actor")) == str(target)
    assert merger.calls == 1
    assert (target / "model.safetensors").read_bytes() == b"01"
    assert not step.with_name("global_step_7.merged.unfinished").exists()


def test_a_checkpoint_that_changed_is_merged_again(step, merger):
    as_model(str(step))
    shard = step / "actor" / "model_world_size_2_rank_1.pt"
    shard.write_bytes(b"9")
    os.utime(shard, ns=(1, 1))
    assert (Path(as_model(str(step))) / "model.safetensors").read_bytes() == b"09"
    assert merger.calls == 2


def test_what_a_killed_merge_left_is_no_model(step, merger):
    unfinished = step.with_name("global_step_7.merged.unfinished")
    unfinished.mkdir()
    (unfinished / "half").touch()
    target = Path(as_model(str(step)))
    assert merger.calls == 1
    assert not (target / "half").exists()


def test_a_merger_that_fails_leaves_no_model(step):
    def fails(actor: Path, target: Path) -> None:
        target.mkdir()
        raise BadCheckpoint("no memory")

    with pytest.raises(BadCheckpoint):
        merged(step / "actor", fails)
    assert not step.with_name("global_step_7.merged").exists()


def test_a_checkpoint_that_lacks_a_rank(step, merger):
    (step / "actor" / "model_world_size_2_rank_1.pt").unlink()
    with pytest.raises(BadCheckpoint, match=r"no model_world_size_2_rank_1\.pt"):
        as_model(str(step))
    assert merger.calls == 0


def test_a_checkpoint_without_the_models_configuration(step, merger):
    (step / "actor" / "huggingface").rmdir()
    with pytest.raises(BadCheckpoint, match="huggingface/"):
        as_model(str(step))


def test_a_checkpoint_that_is_written_while_it_is_merged(step):
    def slow(actor: Path, target: Path) -> None:
        FakeMerger()(actor, target)
        (actor / "model_world_size_2_rank_0.pt").write_bytes(b"other")

    with pytest.raises(BadCheckpoint, match="changed while it was merged"):
        merged(step / "actor", slow)


def test_a_folder_of_checkpoints_names_them(step):
    with pytest.raises(BadCheckpoint, match="name one of global_step_7"):
        as_model(str(step.parent))


@pytest.mark.parametrize("path", ["/nowhere/at/all", "models/a/b"])
def test_nothing_there(path):
    with pytest.raises(BadCheckpoint, match="no such folder"):
        as_model(path)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("Qwen/Qwen2.5-VL-7B-Instruct", "Qwen2.5-VL-7B-Instruct"),
        ("runs/care/global_step_7", "care-global_step_7"),
        ("runs/care/global_step_7/actor", "care-global_step_7"),
        ("/models/mine/", "mine"),
    ],
)
def test_a_name_for_people(given, name):
    assert name_of(given) == name


class TestFingerprint:
    @pytest.fixture
    def model(self, tmp_path):
        folder = tmp_path / "model"
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(bytes(3 << 20))
        return folder

    def test_the_same_wherever_it_lies_and_whatever_is_said_about_it(self, model, tmp_path):
        before = fingerprint(model)
        (model / "README.md").write_text("prose")
        (model / checkpoint.SOURCE).write_text("a time")
        os.utime(model / "model.safetensors", (1, 1))
        moved = model.rename(tmp_path / "moved")
        assert fingerprint(moved) == before

    @pytest.mark.parametrize("place", [0, (3 << 20) - 1, (3 << 20) // 2])
    def test_other_weights(self, model, place):
        before = fingerprint(model)
        with (model / "model.safetensors").open("r+b") as file:
            # a change of the whole file, as training makes it, reaches every block; here one near each place
            file.seek(max(0, place - (1 << 18)))
            file.write(b"\1" * (1 << 18))
        assert fingerprint(model) != before

    def test_another_template_or_tokenizer(self, model):
        before = fingerprint(model)
        (model / "chat_template.jinja").write_text("{{ x }}")
        assert fingerprint(model) != before

    def test_a_small_file_is_read_whole(self, model):
        (model / "model.safetensors").write_bytes(bytes(1000))
        before = fingerprint(model)
        (model / "model.safetensors").write_bytes(bytes(999) + b"\1")
        assert fingerprint(model) != before
