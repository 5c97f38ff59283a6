"""Whether a response came to its end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal


def finish_of(ids: Sequence[int], prompt_length: int, rollout: Any, tokenizer: Any) -> Literal["stop", "length"]:
    """`stop` with an end-of-turn token, or short of the server's limit; else `length`: it was cut off.

    vLLM says why it stopped, and verl does not hand it on (vllm_async_server.py:702).

    Args:
        ids: the response's tokens, one at least.
        prompt_length: in tokens, clips included.
        rollout: `actor_rollout_ref.rollout`.
    """
    limits = [rollout.response_length, rollout.prompt_length + rollout.response_length - prompt_length]
    if rollout.max_model_len:
        limits.append(rollout.max_model_len - prompt_length)
    ended = ids[-1] in (tokenizer.eos_token_id, tokenizer.pad_token_id) or len(ids) < min(limits)
    return "stop" if ended else "length"
