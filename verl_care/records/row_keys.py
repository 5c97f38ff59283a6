"""The keys that verl gives to rows, `{prompt}_{session}_{index}` (verl 0.9.1 agent_loop_tq.py:203); a prompt's own
name may hold such marks as well."""

from __future__ import annotations


def prompt_of(key: str) -> str:
    """The prompt's part of a key; of anything else what stands before its last two marks."""
    return key.rsplit("_", 2)[0]


def order_of(key: str) -> tuple[str, int, int]:
    """To sort by: the responses of a prompt in the order of their sessions."""
    prompt, session, index = key.rsplit("_", 2)
    return prompt, int(session), int(index)
