"""What a judge is asked. Each file of prompts/ is one version of one prompt; a change of its text is a new version."""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml

from verl_care.consistency_measures import texts
from verl_care.evaluation.judge.quoting import quote
from verl_care.evaluation.rows import Row

VERDICTS = ("consistent", "inconsistent", "unknown")
FOLDER = Path(__file__).with_name("prompts")
_VERSION = re.compile(r"([a-z]+)_v([0-9]{1,3})")


@dataclass(frozen=True)
class Prompt:
    """One version of a prompt.

    Attributes:
        name: name and version, `care_v1`.
        digest: of the whole file: what was asked is known even if the file is edited.
        kind: what it asks, and who publishes prompts of that kind.
        system: the instructions, all of them. What is judged stands in a message of its own.
        note: name of the text that the judge writes before its verdict; None if it gives the verdict alone.
        max_tokens: of the whole reply.
    """

    name: str
    digest: str
    kind: str
    system: str
    note: str | None
    max_tokens: int

    def messages(self, row: Row) -> list[dict[str, str]]:
        """Instructions, and the response as data: question, options, reasoning, answer.

        Raises:
            ValueError: the response has nothing to judge; `why_not_asked` says so before.
        """
        parts = texts.split(row.response or "")
        if parts is None:
            raise ValueError(f"the response of {row.key} has no answer")
        data = {"question": row.question, "options": list(row.options), **parts._asdict()}
        return [{"role": "system", "content": self.system}, {"role": "user", "content": quote(data)}]

    def schema(self) -> dict[str, Any]:
        """JSON schema of a reply; without a length of the note, which not every server can enforce."""
        verdict = {"verdict": {"type": "string", "enum": list(VERDICTS)}}
        properties = verdict if self.note is None else {self.note: {"type": "string"}, **verdict}
        return {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }


def names() -> list[str]:
    """All versions, oldest first."""
    found = [path.stem for path in FOLDER.glob("*.yaml") if _VERSION.fullmatch(path.stem)]
    return sorted(found, key=lambda name: (name.partition("_v")[0], int(name.partition("_v")[2])))


def load(name: str) -> Prompt:
    """A version by its full name, or the newest one: `care_v1`, `care`.

    Raises:
        ValueError: there is no such prompt.
    """
    fitting = [known for known in names() if name in (known, known.partition("_v")[0])]
    if not fitting:
        raise ValueError(f"--prompt {name!r} is no prompt of the judge: choose one of {', '.join(names())}")
    content = (FOLDER / f"{fitting[-1]}.yaml").read_bytes()
    return Prompt(name=fitting[-1], digest=sha256(content).hexdigest(), **yaml.safe_load(content))


def why_not_asked(row: Row) -> str | None:
    """Why there is nothing to judge in a response; None if there is."""
    if row.failure is not None or row.response is None:
        return "failed"
    parts = texts.split(row.response)
    if parts is None:
        return "no answer"
    return None if parts.reasoning else "no reasoning"
