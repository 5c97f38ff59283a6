"""Only what a run left is removed: its own names, this user's, newer than the run, mapped by nobody."""

import mmap
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from verl_care.processes import shared_memory
from verl_care.processes.shared_memory import ForeignFolder, Segments

ME = str(os.getpid())


@pytest.fixture
def folders(tmp_path):
    (tmp_path / "shm").mkdir()
    (tmp_path / "marks").mkdir()
    return tmp_path / "shm", tmp_path / "marks"


def segment(shm: Path, name: str, age: float = 0) -> Path:
    """A segment, changed `age` seconds before or after the others."""
    path = shm / name
    path.write_bytes(b"x" * mmap.PAGESIZE)
    now = path.stat().st_mtime
    os.utime(path, (now - age, now - age))
    return path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def ended_process() -> str:
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    return str(process.pid)


def test_only_new_segments_of_our_kind(folders):
    shm, marks = folders
    segment(shm, "psm_before", age=5)
    run = Segments(*folders)
    for name in ("psm_1", "verl_weights_0", "sem.mp-1", "other", "xpsm_1"):
        segment(shm, name)
    assert set(run.remove_new()) == {"psm_1", "verl_weights_0", "sem.mp-1"}
    assert names(shm) == {"psm_before", "other", "xpsm_1"}
    assert names(marks) == set()


def test_a_segment_made_at_once_is_new(folders):
    run = Segments(*folders)
    segment(folders[0], "psm_1")  # within the same tick of the file system's clock
    assert run.remove_new() == ["psm_1"]


def test_another_users_segment_stays(folders, monkeypatch):
    run = Segments(*folders)
    segment(folders[0], "psm_1")
    monkeypatch.setattr(shared_memory.os, "getuid", lambda: os.stat(folders[0]).st_uid + 1)
    assert run.remove_new() == []
    assert names(folders[0]) == {"psm_1"}


def test_a_mapped_segment_stays_until_it_is_let_go(folders):
    run = Segments(*folders)
    path = segment(folders[0], "psm_1")
    with path.open("r+b") as file:
        mapped = mmap.mmap(file.fileno(), 0)
    try:  # the file is closed: only the mapping is left
        assert run.remove_new() == []
        assert path.exists()
    finally:
        mapped.close()
    assert run.remove_new() == ["psm_1"]


def test_an_open_segment_stays(folders):
    run = Segments(*folders)
    path = segment(folders[0], "psm_1")
    with path.open("rb"):
        assert run.remove_new() == []
    assert path.exists()


def test_a_segment_mapped_by_another_process_stays(folders):
    run = Segments(*folders)
    path = segment(folders[0], "psm_1")
    code = (
        "import mmap, sys; file = open(sys.argv[1], 'r+b'); m = mmap.mmap(file.fileno(), 0); file.close();"
        " print('mapped', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-S", "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "mapped\n"
        assert run.remove_new() == []
        other.communicate()
    assert run.remove_new() == ["psm_1"]


def test_a_killed_runs_segments_are_removed_by_the_next(folders):
    shm, marks = folders
    mark = marks / ended_process()
    mark.write_text("12345")  # when that process started
    segment(shm, "psm_before_it", age=5)
    segment(shm, "psm_of_it", age=-5)
    run = Segments(*folders)
    assert run.remove_stale() == ["psm_of_it"]
    assert names(shm) == {"psm_before_it"}
    assert names(marks) == {ME}
    assert Segments(*folders).remove_stale() == []


def test_a_running_runs_segments_stay(folders):
    shm, marks = folders
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) as other:
        (marks / str(other.pid)).write_text(shared_memory._start_of(str(other.pid)))
        segment(shm, "psm_of_it", age=-5)
        assert Segments(*folders).remove_stale() == []
        assert names(marks) == {ME, str(other.pid)}
        other.communicate()
    assert Segments(*folders).remove_stale() == ["psm_of_it"]


@pytest.mark.parametrize("text", ["1", ""], ids=["of another start", "cut off"])
def test_a_process_number_that_was_used_again(folders, text):
    shm, marks = folders
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) as other:
        (marks / str(other.pid)).write_text(text)
        segment(shm, "psm_1", age=-5)
        assert Segments(*folders).remove_stale() == ["psm_1"]
        other.communicate()


def test_our_own_number_that_was_used_again(folders):
    shm, marks = folders
    (marks / ME).write_text("1")
    os.utime(marks / ME, (1000, 1000))
    segment(shm, "psm_1", age=5)
    run = Segments(*folders)
    assert run.remove_stale() == ["psm_1"]
    assert (marks / ME).exists()  # it is this run's now
    assert (marks / ME).read_text() == shared_memory._start_of(ME)


def test_start_of_a_process():
    assert int(shared_memory._start_of(ME)) >= int(shared_memory._start_of("1"))
    assert shared_memory._start_of(ended_process()) is None


def test_what_is_no_mark_is_left_alone(folders):
    (folders[1] / "notes").write_text("")
    Segments(*folders).remove_stale()
    assert names(folders[1]) == {"notes", ME}


def test_a_segment_that_vanishes_meanwhile(folders, monkeypatch):
    run = Segments(*folders)
    segment(folders[0], "psm_1")
    monkeypatch.setattr(type(folders[0]), "lstat", lambda path: os.lstat(str(path) + "_gone"))
    assert run.remove_new() == []


def test_a_container_that_shares_the_hosts_memory_removes_nothing(folders, monkeypatch):
    run = Segments(*folders)
    segment(folders[0], "psm_1")
    real = os.stat
    inodes = {"/proc/self/ns/ipc": shared_memory._HOST_IPC, "/proc/self/ns/pid": 4026532000}

    def stat(path, **options):
        return SimpleNamespace(st_ino=inodes[path]) if path in inodes else real(path, **options)

    monkeypatch.setattr(shared_memory.os, "stat", stat)
    assert run.remove_new() == []
    inodes["/proc/self/ns/ipc"] = 4026532001  # its own
    assert run.remove_new() == ["psm_1"]


def test_no_shared_memory_here(tmp_path):
    (tmp_path / "marks").mkdir()
    assert Segments(tmp_path / "shm", tmp_path / "marks").remove_new() == []


def test_a_folder_of_marks_that_others_can_write_to_is_refused(tmp_path):
    # else a link in it, named by our process, would have us write to any file of ours
    shm, marks, own = tmp_path / "shm", tmp_path / "marks", tmp_path / "own"
    shm.mkdir()
    own.mkdir(mode=0o700)
    marks.mkdir(mode=0o700)
    marks.chmod(0o777)
    with pytest.raises(ForeignFolder, match=r"marks is to be a folder .*mode 40777.*TMPDIR"):
        Segments(shm, marks)
    marks.rmdir()
    marks.symlink_to(own)
    with pytest.raises(ForeignFolder):
        Segments(shm, marks)
    assert names(own) == set()
