"""What vLLM's servers are told where verl 0.9.1 leaves it open. Each changes a rollout's configuration in place."""

from __future__ import annotations

import json
from pathlib import Path

from omegaconf import DictConfig


def fit_length(rollout: DictConfig, model: Path) -> None:
    """`max_model_len` is the longest prompt and its response, where it is not set; or all positions that the model has,
    if these are fewer and it is on this disk.

    verl takes all positions, 128,000 of Qwen2.5-VL. vLLM runs its vision tower on a clip that fills them to see what
    that takes, and keeps room for a sequence of that length: gigabytes that no rollout uses. The clip also says how
    many tokens of vision a request may have. Now that is as many as are computed at once: as many as a prompt has.
    """
    if rollout.max_model_len is None:
        longest = rollout.prompt_length + rollout.response_length
        rollout.max_model_len = min(longest, positions_of(model) or longest)
        rollout.max_num_batched_tokens = max(rollout.max_num_batched_tokens, rollout.prompt_length)


def positions_of(model: Path) -> int | None:
    """How many positions a model in a folder has; None of one that is elsewhere, or does not say."""
    file = model / "config.json"
    config = json.loads(file.read_text()) if file.is_file() else {}
    return config.get("max_position_embeddings") or (config.get("text_config") or {}).get("max_position_embeddings")


def log_whole_distribution(rollout: DictConfig) -> None:
    """Log-probabilities of a rollout are over the whole vocabulary, as the policy's are, and not over what top-p and
    top-k leave of it. For runs that only look at the gap between the two: a correction for it needs the others. At
    another temperature than 1 vLLM's are not the policy's either way."""
    if rollout.temperature == 1:
        rollout.logprobs_mode = "raw_logprobs"
