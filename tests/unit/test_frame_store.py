"""Sampled frames on disk: within a bound, under several processes, and never a damaged one."""

import json
import logging
import subprocess
import sys
import time

import pytest
import torch

from verl_care.data.store import FrameStore

METADATA = {"fps": 8.0, "frames_indices": [0, 5], "total_num_frames": 24, "video_backend": "pyav"}
FRAMES = torch.arange(2 * 3 * 4 * 5, dtype=torch.uint8).view(2, 3, 4, 5)


def entries(folder):
    return sorted(path.stem for path in folder.glob("*.safetensors"))


def held(folder):
    return sum(path.stat().st_size for path in folder.iterdir() if path.name not in (".lock", ".bytes"))


def test_what_was_put_is_got(tmp_path):
    store = FrameStore(tmp_path, 10_000)
    assert store.get("a") is None
    store.put("a", FRAMES, METADATA)
    frames, metadata = FrameStore(tmp_path, 10_000).get("a")  # in another process, say
    assert torch.equal(frames, FRAMES)
    assert metadata == METADATA
    assert (store.damaged, store.unwritten) == (0, 0)


@pytest.mark.parametrize("kind", ["cut short", "empty", "a pixel", "no header", "other notes", "a pickle"])
def test_a_damaged_entry_is_removed_counted_and_made_anew(tmp_path, caplog, kind):
    store = FrameStore(tmp_path, 10_000)
    store.put("a", FRAMES, METADATA)
    path = tmp_path / "a.safetensors"
    content = path.read_bytes()
    if kind == "a pickle":
        torch.save({"frames": FRAMES}, path)
    elif kind == "other notes":
        from safetensors.torch import save_file

        save_file({"frames": FRAMES}, path, metadata={"digest": "0"})
    else:
        path.write_bytes(
            {
                "cut short": content[:-10],
                "empty": b"",
                "a pixel": content[:-1] + bytes([content[-1] ^ 1]),
                "no header": b"\xff" * 50 + content[50:],
            }[kind]
        )
    with caplog.at_level(logging.WARNING):
        assert store.get("a") is None
    assert store.damaged == 1
    assert "a.safetensors is damaged" in caplog.text
    assert not path.exists()
    store.put("a", FRAMES, METADATA)
    assert torch.equal(store.get("a")[0], FRAMES)


def test_the_longest_unused_goes_first(tmp_path):
    probe = FrameStore(tmp_path / "probe", 10_000)
    probe.put("a", FRAMES, METADATA)
    size = held(tmp_path / "probe")
    folder = tmp_path / "store"
    store = FrameStore(folder, 5 * size // 2)
    for key in "ab":
        store.put(key, FRAMES, METADATA)
    assert store.get("a") is not None
    store.put("c", FRAMES, METADATA)  # b is the longest unused
    assert entries(folder) == ["a", "c"]


def test_a_clip_larger_than_the_bound_is_not_kept_and_nothing_goes_for_it(tmp_path):
    store = FrameStore(tmp_path, 1000)  # a clip of 120 bytes has a header of some 300
    store.put("a", FRAMES, METADATA)
    store.put("b", torch.zeros(2, 3, 20, 20, dtype=torch.uint8), METADATA)  # 2,400 bytes
    assert entries(tmp_path) == ["a"]


@pytest.fixture
def counts(monkeypatch):
    """How often the files of a folder were counted."""
    counted, real = [], FrameStore._counted_and_shrunk
    monkeypatch.setattr(FrameStore, "_counted_and_shrunk", lambda *args: counted.append(args) or real(*args))
    return counted


def test_files_are_counted_at_first_and_at_the_bound_alone(tmp_path, counts):
    probe = FrameStore(tmp_path / "probe", 10_000)
    probe.put("a", FRAMES, METADATA)
    size = held(tmp_path / "probe")
    counts.clear()
    stores = [FrameStore(tmp_path / "store", 32 * size) for _ in range(2)]  # two processes, say
    for number in range(32):
        stores[number % 2].put(f"{number:02}", FRAMES, METADATA)
    assert len(counts) == 2  # the first of each
    assert len(entries(tmp_path / "store")) == 32
    # room for a sixteenth, 2 clips, beside the one that is put: 29 of 32 stay
    stores[0].put("32", FRAMES, METADATA)
    assert (len(counts), len(entries(tmp_path / "store"))) == (3, 30)
    for number in (33, 34):
        stores[1].put(str(number), FRAMES, METADATA)
    assert (len(counts), len(entries(tmp_path / "store"))) == (3, 32)
    assert held(tmp_path / "store") == 32 * size


@pytest.mark.parametrize("note", ["", "12 bytes", "0"])
def test_a_note_that_is_no_longer_true(tmp_path, note):
    FrameStore(tmp_path, 1000).put("a", FRAMES, METADATA)
    (tmp_path / "b.safetensors").write_bytes(b"x" * 900)
    (tmp_path / ".bytes").write_text(note)
    FrameStore(tmp_path, 1000).put("c", FRAMES, METADATA)
    assert held(tmp_path) <= 1000
    assert "c" in entries(tmp_path)


def test_what_a_killed_process_left_goes_too(tmp_path):
    store = FrameStore(tmp_path, 1000)
    (tmp_path / "half.part").write_bytes(b"x" * 900)
    store.put("a", FRAMES, METADATA)
    assert held(tmp_path) <= 1000
    assert entries(tmp_path) == ["a"]


def test_a_folder_that_cannot_be_written_does_not_stop_a_training(tmp_path, caplog):
    store = FrameStore(tmp_path / "store", 10_000)
    (tmp_path / "store" / "a.safetensors").mkdir()  # as good as a full disk, which a test cannot have
    for _ in range(3):
        store.put("a", FRAMES, METADATA)
    assert store.unwritten == 3
    assert caplog.text.count("cannot be written") == 1
    assert not list((tmp_path / "store").glob("*.part"))


def test_one_that_another_process_removes_while_it_is_opened_is_not_damaged(tmp_path, monkeypatch):
    store = FrameStore(tmp_path, 1 << 20)
    store.put("a", FRAMES, METADATA)

    def gone(*_, **__):
        raise RuntimeError("unable to open file <a.safetensors> in read-only mode: No such file or directory (2)")

    monkeypatch.setattr("verl_care.data.store.safe_open", gone)
    assert store.get("a") is None
    assert store.damaged == 0


@pytest.mark.parametrize(
    ("where", "error"),
    [
        ("safe_open", OSError(24, "Too many open files")),
        ("safe_open", PermissionError(13, "Permission denied")),
        ("os.utime", PermissionError(1, "Operation not permitted")),  # another user's file
        ("os.utime", OSError(30, "Read-only file system")),
    ],
)
def test_a_sound_file_stays_whatever_the_system_says(tmp_path, monkeypatch, caplog, where, error):
    store = FrameStore(tmp_path, 1 << 20)
    store.put("a", FRAMES, METADATA)

    def refuses(*_, **__):
        raise error

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(f"verl_care.data.store.{where}", refuses)
        found = [store.get("a") for _ in range(2)]
    assert [clip is None for clip in found] == [where == "safe_open"] * 2
    assert caplog.text.count("cannot be read") == (where == "safe_open")  # once
    assert store.damaged == 0
    assert store.get("a") is not None


def test_a_damaged_file_in_a_folder_that_cannot_be_written_fails_no_prompt(tmp_path, monkeypatch):
    store = FrameStore(tmp_path, 1 << 20)
    (tmp_path / "a.safetensors").write_bytes(b"")

    def refuses(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("verl_care.data.store.Path.unlink", refuses)
    assert store.get("a") is None
    assert store.damaged == 1


PROCESS = """
import json, sys, torch
from verl_care.data.store import FrameStore
folder, capacity, name = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
store, worst, wrong = FrameStore(folder, capacity), 0, 0
for turn in range(60):
    key = str((turn * 7 + name) % 12)
    frames = torch.full((2, 3, 20, 20), int(key), dtype=torch.uint8)
    found = store.get(key)
    wrong += found is not None and not torch.equal(found[0], frames)
    store.put(key, frames, {"key": key})
print(json.dumps([store.damaged, store.unwritten, wrong]))
"""


def test_several_processes_share_a_folder(tmp_path):
    capacity = 8 * 2700  # eight of twelve clips of 2400 bytes and a header
    command = [sys.executable, "-c", PROCESS, str(tmp_path), str(capacity)]
    processes = [subprocess.Popen([*command, str(name)], stdout=subprocess.PIPE) for name in range(3)]
    highest = 0
    while any(process.poll() is None for process in processes):
        sizes = []
        for path in tmp_path.iterdir():
            try:
                sizes.append(path.stat().st_size)
            except FileNotFoundError:
                continue
        highest = max(highest, sum(sizes))
        time.sleep(0.002)  # they have the cores
    for process in processes:
        assert json.loads(process.communicate()[0]) == [0, 0, 0]
        assert process.returncode == 0
    # the watcher does not hold the lock: it may add up a file that is gone and the one in its place
    assert highest <= capacity + 2 * 2700
    assert held(tmp_path) <= capacity
    assert len(entries(tmp_path)) >= 6
