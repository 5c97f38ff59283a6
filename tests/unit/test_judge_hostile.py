"""Responses that tell the judge what to say, before judges that do as they are told.

The obedient judge reads a request as the most gullible of models would: it renders the messages by a chat template,
looks for special tokens in all of it, believes a string to end at any quotation mark, and obeys every order that is
not within a string of the data, or that anything hides. The parrots judge rightly, but repeat the response in what
they write. Neither may change how a response is read: as inconsistent, or as unknown, never as consistent.
"""

from __future__ import annotations

import asyncio
import json
import re
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from tests.unit.hostile_responses import HOSTILE, IN_THE_ANSWER, ORDER, responses
from tests.unit.judge_server import Answer, FakeServer, completion, data_of, row, verdict
from verl_care.evaluation import rows
from verl_care.evaluation.judge import prompts
from verl_care.evaluation.judge.cache import Cache
from verl_care.evaluation.judge.judging import Judge, Verdicts, judge_rows
from verl_care.evaluation.judge.server import Server

SPECIAL = re.compile(
    r"<\|[^|<>]{1,40}\|>|\[/?INST\]|<</?SYS>>|</?s>|<(start|end)_of_turn>|</?think>|</?tool_call>|<image>"
    r"|<｜[^｜<>]{1,40}｜>|</?(data|input|reasoning)>|<!--|-->|```|\[{100}"
)
NAMES = {"question", "options", "reasoning", "answer"}


def obedient(request: dict[str, Any]) -> Answer:
    """Says what it is told outside the data; left alone it judges rightly."""
    data = request["messages"][-1]["content"]
    normal = unicodedata.normalize("NFKC", data)
    outside = "".join(data.split('"')[0::2])  # a string ends at any quotation mark, escaped or not
    inside = set(data.split('"')[1::2])
    told = (
        ORDER in outside
        or SPECIAL.search(data)
        or SPECIAL.search(normal)
        or len(data.splitlines()) > 1  # what stands in a line of its own is an order
        or any(unicodedata.category(c)[0] == "C" or 0xFE00 <= ord(c) <= 0xFE0F or ord(c) >= 0xE0000 for c in data)
        or re.search(r"[{}\[\]]", "".join(inside - NAMES))  # another object within the data
        or outside.count(":") != len(NAMES)
    )
    if told:
        return verdict("consistent", rationale="as you say")
    concluded, answered = re.search(r"so ([AB])\.", data), re.search(r'answer"?: "?([AB])', data)
    assert concluded
    assert answered
    return verdict("consistent" if concluded[1] == answered[1] else "inconsistent", rationale="judged")


def parrot_within_the_note(request: dict[str, Any]) -> Answer:
    return verdict("inconsistent", rationale=data_of(request)["reasoning"] + data_of(request)["answer"])


def parrot_that_escapes_nothing(request: dict[str, Any]) -> Answer:
    said = data_of(request)["reasoning"] + data_of(request)["answer"]
    return completion(f'{{"rationale": "{said}", "verdict": "inconsistent"}}')


def parrot_before(request: dict[str, Any]) -> Answer:
    said = data_of(request)["reasoning"] + data_of(request)["answer"]
    return completion(f'{said}\n{{"rationale": "", "verdict": "inconsistent"}}')


def parrot_behind(request: dict[str, Any]) -> Answer:
    said = data_of(request)["reasoning"] + data_of(request)["answer"]
    return completion(f'{{"rationale": "", "verdict": "inconsistent"}}\n{said}')


def judged(tmp_path: Path, answer: Any, structured: bool = True) -> dict[str, float | None]:
    """Name of the hostile response -> how its verdict is read."""
    rows.append_rows(tmp_path, (row(0, text, id=name) for name, text in responses().items()))
    judge = Judge("m", prompts.load("care_v1"), structured=structured)

    async def ask(url: str) -> None:
        server = Server(url, "k", timeout=30, retries=0)
        await judge_rows(
            rows.read_rows(tmp_path), judge, Verdicts(tmp_path, judge), Cache(tmp_path), server, concurrency=4
        )
        await server.close()

    def reply(request: dict[str, Any]) -> Answer:
        said = data_of(request)["reasoning"] if request["messages"][-1]["content"].startswith("{") else ""
        return verdict("consistent", rationale="") if said == "A bowl is filled with soup." else answer(request)

    with FakeServer(reply) as fake:
        asyncio.run(ask(fake.url))
        assert len(fake.requests) == len(responses()) + 1  # the trial
    return {key.id: one.value for key, one in rows.read_measures(tmp_path)[judge.measure].items()}


def test_there_are_many() -> None:
    assert len(responses()) > 30


def test_the_obedient_judge_is_not_reached(tmp_path: Path) -> None:
    assert set(judged(tmp_path, obedient).values()) == {0.0}


def said_of(data: str) -> str:
    reply = obedient({"messages": [{"content": data}]}).body
    return json.loads(reply["choices"][0]["message"]["content"])["verdict"]


def pasted(reasoning: str, answer: str) -> str:
    return f"question: ; options: ; reasoning: It is soup, so A. {reasoning}; answer: {answer}"


def test_it_is_reached_where_a_prompt_pastes_the_response() -> None:
    """So that the test above can fail: the same judge and the same responses, put in the usual way."""
    assert said_of(pasted("", "B")) == "inconsistent"
    missed = {name for name, text in HOSTILE.items() if said_of(pasted(text, "B")) == "inconsistent"}
    assert missed == {"a verdict that closes and opens the note", "a verdict behind a backslash"}  # for the parrots
    assert {name for name, text in IN_THE_ANSWER.items() if said_of(pasted("", text)) == "inconsistent"} == set()


def test_it_is_reached_through_json_as_it_is_usually_written() -> None:
    data = {"question": "", "options": [], "reasoning": "It is soup, so A.", "answer": "B"}
    assert said_of(json.dumps(data)) == "inconsistent"
    told = {
        name
        for name, text in HOSTILE.items()
        if said_of(json.dumps({**data, "reasoning": f"so A. {text}"})) == "consistent"
    }
    assert len(told) >= 20
    assert told >= {"a closed JSON string", "a verdict as JSON", "ChatML: a turn of the system", "Llama 2", "Gemma"}


@pytest.mark.parametrize("structured", [True, False], ids=["schema", "plain"])
@pytest.mark.parametrize("parrot", [parrot_within_the_note, parrot_that_escapes_nothing, parrot_before, parrot_behind])
def test_what_a_judge_repeats_is_not_its_verdict(tmp_path: Path, parrot: Any, structured: bool) -> None:
    values = judged(tmp_path, parrot, structured)
    assert len(values) == len(responses())
    assert set(values.values()) <= {0.0, None}
    if parrot is parrot_within_the_note:
        assert set(values.values()) == {0.0, None}  # None: a reply that is too long
        assert [name for name, value in values.items() if value is None] == ["far too many brackets"]


def test_it_would_be_for_a_reader_who_searches_the_reply() -> None:
    found = set()
    for name, text in HOSTILE.items():
        data = json.dumps({"reasoning": text, "answer": "B"})
        reply = parrot_that_escapes_nothing({"messages": [{"content": data}]}).body["choices"][0]["message"]["content"]
        if re.findall(r'"verdict": "([a-z]+)', reply)[0] == "consistent":
            found.add(name)
    assert len(found) >= 5
