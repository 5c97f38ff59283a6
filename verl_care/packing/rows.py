"""What packing reads of a batch as verl hands it to an engine: lengths, groups, pixels."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from tensordict import TensorDict


def lengths(data: TensorDict) -> tuple[list[int], list[int]]:
    """Tokens of each row's prompt and of its response."""
    prompts, tokens = (data.get(name).offsets().diff() for name in ("prompts", "input_ids"))
    return prompts.tolist(), (tokens - prompts).tolist()


def group_keys(data: TensorDict) -> list[Hashable]:
    """Rows with the same key have the same prompt: the same tokens, and as `uid` says, the same clip and images.

    Rows without a `uid` are groups of their own: the clip behind equal tokens might be another.
    """
    from verl.utils import tensordict_utils as tu

    uids = tu.get(data, "uid") if "uid" in data.keys() else range(len(data))  # noqa: SIM118 - a TensorDict is no dict
    prompts = data["prompts"].unbind()
    return [(uid, prompt.cpu().numpy().tobytes()) for uid, prompt in zip(uids, prompts, strict=True)]


def column(data: TensorDict, name: str) -> list[Any]:
    """One entry per row, however it is packed."""
    from verl.utils import tensordict_utils as tu

    values = data[name] if isinstance(data[name], Tensor) else tu.get(data, name)
    return list(values.unbind()) if isinstance(values, Tensor) else list(values)
