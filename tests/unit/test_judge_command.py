"""python -m verl_care.evaluation judge, as a user calls it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from tests.unit.judge_server import Answer, FakeServer, data_of, refusal, row, verdict
from verl_care.evaluation import __main__ as evaluation
from verl_care.evaluation import rows

KEY = "sk-a-key-that-is-nowhere"


def command(run: Path, url: str, *more: str) -> list[str]:
    return ["judge", str(run), "--base-url", url, "--model", "m", "--cache", str(run.parent / "cache"), *more]


@pytest.fixture
def call(monkeypatch, capsys):
    """Call it here; (exit code, standard output, standard error)."""

    def called(*arguments: Any) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["evaluation", *command(*arguments)])
        code = evaluation.main()
        return (code, *capsys.readouterr())

    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    return called


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Twelve responses in two data sets, and one that failed."""
    folder = tmp_path / "run"
    rows.append_rows(folder, (row(n, dataset=f"d/L{n % 2 + 1}") for n in range(12)))
    rows.append_rows(folder, [row(12, None, dataset="d/L1", failure="media: gone")])
    return folder


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_the_whole_way(call, run: Path) -> None:
    def answer(request: dict[str, Any]) -> Answer:
        odd = data_of(request)["question"][-2] in "13579"
        return verdict("inconsistent" if odd else "consistent", rationale="r")

    with FakeServer(answer) as fake:
        code, out, err = call(run, fake.url, "--price-in", "2", "--price-out", "8")
        assert (code, set(fake.keys)) == (0, {f"Bearer {KEY}"})
        again, out_again, _ = call(run, fake.url)
    # numbers 1, 3, 5, 7, 9 and 11 are L2 and odd
    lines = out.splitlines()
    assert lines[0] == "judge-m-care_v1"
    assert [line.split()[:5] for line in lines[2:5]] == [
        ["d/L1", "7", "6", "0", "1"],
        ["d/L2", "6", "0", "6", "0"],
        ["all", "13", "6", "6", "1"],
    ]
    # 12 responses and the trial, 100 tokens in and 10 out each: 1300 * 2 / 10^6 + 130 * 8 / 10^6 = 0.00364
    assert lines[-2:] == ["13 requests, 0 replies from the cache, 1300 tokens in, 130 out", "cost 0.0036"]
    assert "13/13" in err  # the progress bar
    assert again == 0
    assert out_again.splitlines()[-1] == "0 requests, 0 replies from the cache, 0 tokens in, 0 out"
    for path in files_below(run.parent):
        assert KEY.encode() not in path.read_bytes(), path


def test_the_key_is_not_told_when_a_server_repeats_it(call, run: Path) -> None:
    with FakeServer(lambda _: refusal(401, f"wrong key {KEY}")) as fake:
        code, out, err = call(run, fake.url)
    assert code == 2
    assert "wrong key ***" in err
    assert KEY not in out + err


def test_another_variable_may_hold_the_key(call, run: Path, monkeypatch) -> None:
    monkeypatch.setenv("MINE", "sk-of-mine")
    with FakeServer(lambda _: verdict("consistent", rationale="")) as fake:
        call(run, fake.url, "--api-key-env", "MINE")
        monkeypatch.delenv("MINE")
        call(run, fake.url, "--api-key-env", "MINE", "--prompt", "supports")
    assert set(fake.keys) == {"Bearer sk-of-mine", "Bearer EMPTY"}


def test_a_sample(call, run: Path) -> None:
    with FakeServer(lambda _: verdict("consistent", rationale="")) as fake:
        _, out, _ = call(run, fake.url, "--sample", "2", "--seed", "1")
        asked = len(fake.requests)
        call(run, fake.url, "--sample", "3", "--seed", "1")
    assert [line.split()[1] for line in out.splitlines()[2:5]] == ["2", "2", "4"]
    assert len(fake.requests) <= asked + 3  # the trial, and one more of each data set


def test_wrong_options(call, run: Path) -> None:
    for more, told in ((["--prompt", "none"], "choose one of care_v1"), (["--base-url", "x"], "is no address")):
        code, _, err = call(run, "http://127.0.0.1:9/v1", *more)
        assert (code, told in err) == (2, True), err
    code, _, err = call(run.parent / "nowhere", "http://127.0.0.1:9/v1")
    assert (code, "has no responses.jsonl" in err) == (2, True)
    for more in (["--sample", "0"], ["--timeout", "0"], ["--timeout", "nan"], ["--retries", "-1"]):
        with pytest.raises(SystemExit):
            call(run, "http://127.0.0.1:9/v1", *more)


@pytest.mark.timeout(400)
def test_killed_and_started_again(run: Path) -> None:
    on_its_way, killed = threading.Event(), threading.Event()
    asked: Counter[str] = Counter()

    def answer(request: dict[str, Any]) -> Answer:
        asked[data_of(request)["question"]] += 1
        if sum(asked.values()) == 7:
            on_its_way.set()
            killed.wait(150)
        return verdict("consistent", rationale="")

    with FakeServer(answer) as fake:
        program = [sys.executable, "-m", "verl_care.evaluation", *command(run, fake.url, "--concurrency", "1")]
        first = subprocess.Popen(program, stderr=subprocess.DEVNULL)
        assert on_its_way.wait(150)
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        killed.set()
        (left,) = rows.read_measures(run).values()
        assert [one.why for one in left.values()] == [None, None, "failed", None, None, None]
        with (run / "measures" / "judge-m-care_v1.jsonl").open("a") as file:
            file.write('{"dataset": "d/L1", "id"')  # as if it had been killed while writing
        last = subprocess.run(program, capture_output=True, text=True, timeout=150)
        assert last.returncode == 0, last.stderr
    (found,) = rows.read_measures(run).values()
    assert sorted(one.value or 0.0 for one in found.values()) == [0.0] + [1.0] * 12
    # twice: the one that was on its way, and the trial
    assert sorted(asked.values()) == [1] * 11 + [2, 2]


def test_two_at_once_are_refused(call, run: Path) -> None:
    (run / "measures").mkdir()
    with FileLock(run / "measures" / "judge-m-care_v1.lock"):  # as another call would hold it
        code, _, err = call(run, "http://127.0.0.1:9/v1")
    assert (code, "is being judged by judge-m-care_v1 already" in err) == (2, True)
