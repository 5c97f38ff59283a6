"""What a judge is shown, and how its reply is read."""

from __future__ import annotations

import json
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.judge_server import row
from verl_care.evaluation.judge import prompts, verdict
from verl_care.evaluation.judge.quoting import printable, quote
from verl_care.evaluation.judge.verdict import Reply, reply_of

ANY_TEXT = st.text(st.characters())  # half characters (surrogates) too

# A version's text never changes: verdicts on disk name it. Another text is another version.
VERSIONS = {
    "care_v1": "f8c96e7af16708fd3d085a5e8c2f9bf1af4e5eb805033f8170bdcda0ecbbd118",
    "derives_v1": "ca6dbdb928c33a7711652394622ef7ac1f247f7afe3b2f383809e32b1e5c7bbd",
    "supports_v1": "c8efd8ddbb59695c02ba78d60f63105c49ca7d71ff6a059c953966169e6464f0",
}


@settings(deadline=None)  # no test asserts on time
@given(ANY_TEXT, st.lists(ANY_TEXT))
def test_quoted_text_comes_back_whole(text: str, options: list[str]) -> None:
    assert json.loads(quote({"a": text, "b": options})) == {"a": text, "b": options}


@settings(deadline=None)
@given(ANY_TEXT)
def test_nothing_in_quoted_text_ends_it(text: str) -> None:
    written = quote({"a": text})
    assert (written[:7], written[-2:]) == ('{"a": "', '"}')
    inside = written[7:-2]
    assert not set(inside) & set('"<>[]{}|`')
    assert inside.isprintable()
    # every backslash begins an escape of ours
    assert all(part[0] in "nu" for part in inside.split("\\")[1:])


def test_what_people_write_stays_readable() -> None:
    for text in ("It's 3.5 m, so (B) is right: “yes” — 50%!", "红色的汤，所以是A。", "суп, да", "नमस्ते", "سلام"):
        assert quote({"a": text}) == f'{{"a": "{text}"}}'


def test_written_by_hand() -> None:
    # < is 3c, | is 7c, > is 3e, the quotation mark 22, the backslash 5c; U+1F600 is the pair d83d de00
    assert quote({"a": '<|"\\>\n😀'}) == '{"a": "\\u003c\\u007c\\u0022\\u005c\\u003e\\n\\ud83d\\ude00"}'


def test_a_terminal_is_safe() -> None:
    assert printable("a\x1b[2K\nb\u202ec") == "a [2K b c"
    assert printable("x" * 400) == "x" * 300 + "..."


@pytest.mark.parametrize("name", prompts.names())
def test_a_version_does_not_change(name: str) -> None:
    content = (prompts.FOLDER / f"{name}.yaml").read_bytes()
    assert sha256(content).hexdigest() == VERSIONS[name], f"{name} is out: write {name.partition('_v')[0]}_v<next>"


def test_there_are_three_kinds_of_prompt() -> None:
    assert prompts.names() == sorted(VERSIONS)
    assert prompts.load("care") == prompts.load("care_v1")
    with pytest.raises(ValueError, match=r"--prompt '../care' is no prompt of the judge: choose one of care_v1"):
        prompts.load("../care")


@pytest.mark.parametrize("name", prompts.names())
def test_the_judge_sees_question_options_reasoning_and_answer_alone(name: str) -> None:
    instructions, data = prompts.load(name).messages(
        row(7, "<think>It is <b>soup</b>.</think>\n<answer> A </answer> B")
    )
    assert (instructions["role"], data["role"]) == ("system", "user")
    assert json.loads(data["content"]) == {
        "question": "What is served at table 7?",
        "options": ["A. soup", "B. salad"],
        "reasoning": "It is <b>soup</b>.",
        "answer": "A",
    }
    assert instructions["content"] == prompts.load(name).system  # nothing of the row
    assert all(word in instructions["content"] for word in ("question", "options", "reasoning", "answer"))


@pytest.mark.parametrize("name", prompts.names())
def test_the_schema_asks_for_what_is_read(name: str) -> None:
    prompt = prompts.load(name)
    schema = prompt.schema()
    assert schema["additionalProperties"] is False
    assert schema["required"] == [*([prompt.note] if prompt.note else []), "verdict"]  # the note comes first
    assert all(f'"{key}"' in prompt.system for key in schema["required"])


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, None),
        ({"response": None, "failure": "media: gone"}, "failed"),
        ({"response": None}, "failed"),
        ({"response": "<think>soup"}, "no answer"),
        ({"response": "<think>soup</think><answer> </answer>"}, "no answer"),
        ({"response": "<think> </think><answer>A</answer>"}, "no reasoning"),
    ],
)
def test_what_is_not_asked(changes: dict, why: str | None) -> None:
    assert prompts.why_not_asked(row(1, **changes)) == why


GOOD = '{"rationale": "r", "verdict": "consistent"}'


@pytest.mark.parametrize(
    ("text", "value", "why"),
    [
        (GOOD, 1.0, None),
        (f"  {GOOD}\n", 1.0, None),
        ('{"verdict": "inconsistent", "rationale": ""}', 0.0, None),
        ('{"rationale": "r", "verdict": "unknown"}', None, "judged unknown"),
        ("", None, "empty reply"),
        (None, None, "empty reply"),
        ("consistent", None, "not json"),
        (f"Here it is: {GOOD}", None, "not json"),
        (f"{GOOD} {GOOD}", None, "not json"),
        (f"```json\n{GOOD}\n```", None, "not json"),
        (f"<think>hm</think>{GOOD}", None, "not json"),
        (GOOD[:-1], None, "not json"),
        ("[" * 3000, None, "not json"),
        (f"[{GOOD}]", None, "no object"),
        ('"consistent"', None, "no object"),
        ('{"verdict": "consistent"}', None, "missing keys"),
        ('{"rationale": "r", "Verdict": "consistent"}', None, "missing keys"),
        ('{"rationale": "r", "verdict": "consistent", "score": 1}', None, "extra keys"),
        ('{"rationale": "r", "verdict": "inconsistent", "verdict": "consistent"}', None, "repeated keys"),
        ('{"rationale": {"a": 1, "a": 2}, "verdict": "consistent"}', None, "repeated keys"),
        ('{"rationale": 1, "verdict": "consistent"}', None, "rationale is no text"),
        ('{"rationale": "r", "verdict": "Consistent"}', None, "no such verdict"),
        ('{"rationale": "r", "verdict": ["consistent"]}', None, "no such verdict"),
        ('{"rationale": "r", "verdict": true}', None, "no such verdict"),
        (GOOD.replace("r", "r" * 4000, 1), None, "long reply"),
    ],
)
def test_a_reply_is_read_strictly(text: str | None, value: float | None, why: str | None) -> None:
    found = verdict.read(Reply(text, "stop", False, 0, 0), prompts.load("care_v1"))
    assert (found.value, found.why) == (value, why)


def test_what_stops_a_reply_comes_first() -> None:
    prompt = prompts.load("care_v1")
    assert verdict.read(Reply(GOOD, "length", False, 0, 0), prompt).why == "cut off"
    assert verdict.read(Reply(GOOD, "content_filter", False, 0, 0), prompt).why == "refused"
    assert verdict.read(Reply(None, "stop", True, 0, 0), prompt).why == "refused"


def test_plain_text_may_stand_in_one_fence() -> None:
    prompt = prompts.load("care_v1")
    for text, value in (
        (f"```json\n{GOOD}\n```", 1.0),
        (f"```\n{GOOD}\n```", 1.0),
        (f"```json\n{GOOD}\n```\nsure", None),
        (f"sure\n```json\n{GOOD}\n```", None),
        (f"```json\n{GOOD}\n```\n```json\n{GOOD}\n```", None),
    ):
        assert verdict.read(Reply(text, "stop", False, 0, 0), prompt, fenced=True).value == value, text


@pytest.mark.parametrize(
    "body",
    [
        b"", b"<html>", b"[]", b"{}", b'{"choices": []}', b'{"choices": {}}', b'{"choices": [null]}',
        b'{"choices": [{"message": null}]}', b'{"choices": [{"message": {"content": 1}}]}',
        b'{"choices": [{"message": {"content": ["x"]}, "finish_reason": 3}], "usage": [1]}', b"\xff\xfe", b"[" * 100000,
    ],
)  # fmt: skip
def test_a_body_of_another_shape_is_an_empty_reply(body: bytes) -> None:
    assert reply_of(body) == Reply(None, "", False, 0, 0)
    assert verdict.read(reply_of(body), prompts.load("care_v1")).why == "empty reply"


@settings(deadline=None)
@given(ANY_TEXT)
def test_no_reply_raises(text: str) -> None:
    assert verdict.read(Reply(text, "stop", False, 0, 0), prompts.load("care_v1"), fenced=True).value is None
