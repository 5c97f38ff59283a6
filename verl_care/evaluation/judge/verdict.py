"""How a judge's reply is read: exactly the object that was asked for, or it is unknown, with the reason."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, NamedTuple

from verl_care.evaluation.judge.prompts import VERDICTS, Prompt

_LONGEST = 4000  # characters of a reply: no prompt's max_tokens give as many
_FENCES = ("```json\n", "```\n")


@dataclass(frozen=True)
class Reply:
    """What a server answered, as far as it matters; the cache keeps it."""

    text: str | None
    finish: str  # "stop", "length", "content_filter", ...; "" if the server gave none
    refused: bool
    prompt_tokens: int
    completion_tokens: int


class Verdict(NamedTuple):
    value: float | None  # 1 consistent, 0 inconsistent, None unknown
    why: str | None  # of an unknown
    note: str | None = None  # what the judge wrote before its verdict


def reply_of(body: bytes) -> Reply:
    """The first choice of a chat completion. What has another shape than it should is a reply without text."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        content = None
    choices = _get(content, "choices", list) or [None]
    message = _get(choices[0], "message", dict)
    usage = _get(content, "usage", dict)
    return Reply(
        text=_get(message, "content", str),
        finish=_get(choices[0], "finish_reason", str) or "",
        refused=bool(_get(message, "refusal", str)),
        prompt_tokens=_get(usage, "prompt_tokens", int) or 0,
        completion_tokens=_get(usage, "completion_tokens", int) or 0,
    )


def read(reply: Reply, prompt: Prompt, fenced: bool = False) -> Verdict:
    """The verdict of a reply.

    It counts only if the reply is complete and its whole text is one JSON object, with the keys that the prompt asks
    for, each once and no other, and one of the three verdicts. There is no search for a verdict within a text: a judge
    that repeats what a response says, outside its note, is not read at all.

    Args:
        fenced: the text may stand in one Markdown fence; for servers that enforce no schema.
    """
    if reply.refused or reply.finish == "content_filter":
        return Verdict(None, "refused")
    if reply.finish == "length":
        return Verdict(None, "cut off")
    text = (reply.text or "").strip()
    if not text:
        return Verdict(None, "empty reply")
    if len(text) > _LONGEST:
        return Verdict(None, "long reply")
    try:
        found = json.loads(_unfenced(text) if fenced else text, object_pairs_hook=_once)
    except _RepeatedKey:
        return Verdict(None, "repeated keys")
    except (ValueError, RecursionError):
        return Verdict(None, "not json")
    if not isinstance(found, dict):
        return Verdict(None, "no object")
    wanted = {"verdict"} if prompt.note is None else {"verdict", prompt.note}
    if found.keys() != wanted:
        return Verdict(None, "extra keys" if found.keys() > wanted else "missing keys")
    note = found.get(prompt.note) if prompt.note else None
    if prompt.note and not isinstance(note, str):
        return Verdict(None, f"{prompt.note} is no text")
    if found["verdict"] not in VERDICTS:
        return Verdict(None, "no such verdict")
    if found["verdict"] == "unknown":
        return Verdict(None, "judged unknown", note)
    return Verdict(float(found["verdict"] == "consistent"), None, note)


class _RepeatedKey(Exception):
    pass


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """`json.loads` alone takes the last of two equal keys, and other readers the first."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _RepeatedKey
    return found


def _unfenced(text: str) -> str:
    for fence in _FENCES:
        if text.startswith(fence) and text.endswith("\n```") and len(text) >= len(fence) + 4:
            return text[len(fence) : -4]
    return text


def _get(container: object, key: str, kind: type) -> Any:
    """`container[key]`, if that is a `dict` and there is such a thing in it; else None."""
    value = container.get(key) if isinstance(container, dict) else None
    return value if isinstance(value, kind) else None
