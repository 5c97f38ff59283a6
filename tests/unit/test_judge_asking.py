"""Asking a judge: about which responses, how many at a time, and what is kept."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.unit.judge_server import Answer, Clock, FakeServer, completion, data_of, refusal, row, verdict
from verl_care.evaluation import rows
from verl_care.evaluation.judge import prompts
from verl_care.evaluation.judge.cache import Cache
from verl_care.evaluation.judge.judging import Judge, Verdicts, judge_rows, sample
from verl_care.evaluation.judge.server import Server, ServerError
from verl_care.evaluation.judge.summary import Usage, table
from verl_care.evaluation.rows import Key, Measured

JUDGE = Judge("org/judge 7B", prompts.load("supports_v1"))


def judged(
    tmp_path: Path, answer: Any, chosen: list[rows.Row], judge: Judge = JUDGE, cache: str = "cache", **options: Any
) -> tuple[dict[str, Measured], FakeServer, Usage]:
    """One call of the command on `chosen`: (id -> what is measured, the server and its requests, what it cost)."""

    async def ask(url: str) -> Usage:
        server = Server(url, "sk-secret", timeout=30, retries=1, sleep=Clock().sleep)
        try:
            verdicts = Verdicts(tmp_path, judge)
            return await judge_rows(
                chosen, judge, verdicts, Cache(tmp_path / cache), server, **{"concurrency": 2, **options}
            )
        finally:
            await server.close()

    with FakeServer(answer) as fake:
        usage = asyncio.run(ask(fake.url))
    found = rows.read_measures(tmp_path).get(judge.measure, {})
    return {key.id: one for key, one in found.items()}, fake, usage


def always(word: str = "consistent") -> Any:
    return lambda _: verdict(word)


ROWS = [row(number) for number in range(6)]


def test_each_response_is_asked_about_once(tmp_path: Path) -> None:
    words = {f"What is served at table {n}?": word for n, word in enumerate(["consistent", "inconsistent", "unknown"])}
    measured, fake, usage = judged(tmp_path, lambda r: verdict(words.get(data_of(r)["question"], "unknown")), ROWS[:3])
    assert {key: one[1:] for key, one in measured.items()} == {
        "0": (1.0, None),
        "1": (0.0, None),
        "2": (None, "judged unknown"),
    }
    assert len(fake.requests) == 4  # the trial
    assert usage == Usage(asked=4, prompt_tokens=400, completion_tokens=40)
    assert JUDGE.measure == "judge-org-judge-7B-supports_v1"
    assert (tmp_path / "measures" / f"{JUDGE.measure}.jsonl").exists()


def test_the_truth_is_in_no_request(tmp_path: Path) -> None:
    for name in prompts.names():
        _, fake, _ = judged(tmp_path, always(), ROWS, Judge("m", prompts.load(name)))
        sent = json.dumps(fake.requests)
        assert "table 5" in sent
        for secret in ("the-truth-itself", "the-domain-itself", "d/L1", "multiple choice"):
            assert secret not in sent


def test_what_is_sent(tmp_path: Path) -> None:
    _, fake, _ = judged(tmp_path, always(), ROWS[:1])
    request = fake.requests[-1]
    assert (request["model"], request["temperature"], request["max_completion_tokens"]) == ("org/judge 7B", 0.0, 24)
    assert request["response_format"]["json_schema"]["schema"] == JUDGE.prompt.schema()
    other = Judge("m", JUDGE.prompt, temperature=None, max_tokens=99, structured=False)
    _, fake, _ = judged(tmp_path, always(), ROWS[:1], other)
    assert fake.requests[-1].keys() == {"model", "messages", "max_completion_tokens"}
    assert fake.requests[-1]["max_completion_tokens"] == 99


def test_what_has_no_answer_is_not_asked(tmp_path: Path) -> None:
    chosen = [row(0, None, failure="media: gone"), row(1, "<think>soup"), row(2, "<answer>A</answer>")]
    measured, fake, _ = judged(tmp_path, always(), chosen)
    assert {key: one[1:] for key, one in measured.items()} == {
        "0": (None, "failed"),
        "1": (None, "no answer"),
        "2": (None, "no reasoning"),
    }
    assert fake.requests == []


def test_a_second_call_asks_for_what_is_missing(tmp_path: Path) -> None:
    judged(tmp_path, always("inconsistent"), ROWS[:4], cache="first")
    measured, fake, usage = judged(tmp_path, always(), ROWS, cache="second")
    assert [measured[str(n)].value for n in range(6)] == [0, 0, 0, 0, 1, 1]
    assert sorted(data_of(r)["question"][-2] for r in fake.requests[1:]) == ["4", "5"]
    assert (usage.asked, usage.cached) == (3, 0)
    _, fake, _ = judged(tmp_path, always(), ROWS, cache="third")
    assert fake.requests == []


def test_another_response_to_the_same_question_is_asked_about(tmp_path: Path) -> None:
    judged(tmp_path, always("inconsistent"), ROWS[:2])
    changed = [ROWS[0], row(1, "<think>Leaves, so salad.</think><answer>B</answer>")]
    measured, fake, _ = judged(tmp_path, always(), changed)
    assert (measured["0"].value, measured["1"].value, len(fake.requests)) == (0, 1, 2)


def test_the_cache_answers_without_a_request(tmp_path: Path) -> None:
    judged(tmp_path / "one", always("inconsistent"), ROWS, cache="../cache")
    measured, fake, usage = judged(tmp_path / "two", always(), ROWS, cache="../cache")
    assert {one.value for one in measured.values()} == {0.0}
    assert (fake.requests, usage) == ([], Usage(cached=6))


@pytest.mark.parametrize(
    "other",
    [
        Judge("other", JUDGE.prompt),
        Judge(JUDGE.model, prompts.load("care_v1")),
        Judge(JUDGE.model, JUDGE.prompt, temperature=0.5),
        Judge(JUDGE.model, JUDGE.prompt, structured=False),
        Judge(JUDGE.model, JUDGE.prompt, max_tokens=25),
    ],
)
def test_the_cache_keeps_other_judges_apart(tmp_path: Path, other: Judge) -> None:
    judged(tmp_path / "one", always(), ROWS[:1], cache="../cache")
    _, fake, _ = judged(tmp_path / "two", always(), ROWS[:1], other, cache="../cache")
    assert len(fake.requests) == 2


def test_verdicts_of_other_settings_do_not_mix(tmp_path: Path) -> None:
    judged(tmp_path, always(), ROWS[:1])
    with pytest.raises(ValueError, match="judged with another temperature, and verdicts of different settings"):
        judged(tmp_path, always(), ROWS, Judge(JUDGE.model, JUDGE.prompt, temperature=0.7))
    with pytest.raises(ValueError, match="judged with another model"):  # two names, one file
        judged(tmp_path, always(), ROWS, Judge("org-judge/7B", JUDGE.prompt))


def test_a_failing_server_costs_a_row_and_no_more(tmp_path: Path) -> None:
    def some(request: dict[str, Any]) -> Answer:
        place = data_of(request)["question"][-2]
        return {"1": refusal(500), "2": refusal(400, "context"), "3": completion(None, refusal="no")}.get(
            place, verdict("consistent")
        )

    measured, _, usage = judged(tmp_path, some, ROWS)
    assert [measured[str(n)].why for n in range(6)] == [None, "server error", "rejected", "refused", None, None]
    assert set(usage.failures) == {"server error", "rejected"}
    # another call leaves them, and with ask_again takes up what may be gone
    _, fake, _ = judged(tmp_path, always(), ROWS)
    assert fake.requests == []
    measured, fake, _ = judged(tmp_path, always(), ROWS, ask_again=True)
    assert [measured[str(n)].why for n in range(6)] == [None, None, "rejected", "refused", None, None]


def test_a_server_without_schemas_is_an_error_for_the_user(tmp_path: Path) -> None:
    def old(request: dict[str, Any]) -> Answer:
        return refusal(400, "response_format is not known") if "response_format" in request else verdict("consistent")

    with pytest.raises(ServerError, match=r"response_format is not known.* --plain-json does without a schema"):
        judged(tmp_path, old, ROWS)
    assert rows.read_measures(tmp_path) == {}
    measured, _, _ = judged(tmp_path, old, ROWS, Judge(JUDGE.model, JUDGE.prompt, structured=False))
    assert len(measured) == 6


def test_a_server_that_goes_away_ends_the_run(tmp_path: Path) -> None:
    answers = iter([verdict("consistent")] * 3)  # the trial and two responses
    with pytest.raises(ServerError, match="refuses"):
        judged(tmp_path, lambda _: next(answers, refusal(401)), ROWS, concurrency=1)
    (found,) = rows.read_measures(tmp_path).values()
    assert [one.value for one in found.values()] == [1.0, 1.0]
    measured, fake, _ = judged(tmp_path, always(), ROWS)
    assert (len(measured), len(fake.requests)) == (6, 5)


@pytest.mark.parametrize("concurrency", [1, 3])
def test_so_many_at_a_time_and_no_more(tmp_path: Path, concurrency: int) -> None:
    everyone = threading.Barrier(concurrency)

    def together(request: dict[str, Any]) -> Answer:
        if "table" in data_of(request)["question"]:  # not the trial
            everyone.wait(30)  # for as many as are to be there at once
        return verdict("consistent")

    _, fake, _ = judged(tmp_path, together, ROWS, concurrency=concurrency)
    assert fake.busiest == concurrency


def test_a_sample_is_the_same_whatever_the_order(tmp_path: Path) -> None:
    many = [row(n, dataset=name) for name in ("a", "b") for n in range(50)] + [row(0, dataset="small")]
    drawn = sample(many, 10, seed=3)
    assert [sum(one.dataset == name for one in drawn) for name in ("a", "b", "small")] == [10, 10, 1]
    assert sample(reversed(many), 10, seed=3) == drawn
    assert sample([row(n, "other", dataset="a") for n in range(50)], 10, seed=3) == [
        row(int(one.id), "other", dataset="a") for one in drawn if one.dataset == "a"
    ]
    assert {one.key for one in drawn} < {one.key for one in sample(many, 20, seed=3)}
    assert sample(many, 10, seed=4) != drawn
    assert [one.key for one in sample(reversed(many), None, seed=0)] == sorted(one.key for one in many)


def test_a_sample_is_spread_evenly() -> None:
    many = [row(n) for n in range(20)]
    times = dict.fromkeys((one.key for one in many), 0)
    for seed in range(400):
        for one in sample(many, 5, seed):
            times[one.key] += 1
    # each is drawn with probability 1/4: 100 times of 400, standard deviation sqrt(400 * 1/4 * 3/4) = 8.7; 5 of them
    assert all(abs(count - 100) < 44 for count in times.values())


def test_the_table() -> None:
    measured = [Measured(Key("a", str(n), 0), 1.0) for n in range(8)]
    measured += [Measured(Key("a", str(n), 1), 0.0) for n in range(2)]
    measured += [Measured(Key("b\x1b[2K", "0", 0), None, "cut off"), Measured(Key("a", "9", 2), None, "refused")]
    # Wilson for 8 of 10, z = 1.96: centre (0.8 + 1.9207 / 10) / (1 + 3.8415 / 10) = 0.7167,
    # half width 1.96 * sqrt(0.16 / 10 + 3.8415 / 400) / 1.38415 = 0.2266
    assert table(measured).splitlines() == [
        "data set  responses  consistent  inconsistent  unknown  share   95 % interval",
        "a                11           8             2        1  0.800  0.490 .. 0.943",
        "b [2K             1           0             0        1      -               -",
        "all              12           8             2        2  0.800  0.490 .. 0.943",
        "unknown: cut off 1, refused 1",
    ]


def test_cost() -> None:
    # 3 million in at 2, half a million out at 8
    assert Usage(prompt_tokens=3_000_000, completion_tokens=500_000).cost(2.0, 8.0) == 10.0
