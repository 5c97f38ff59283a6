"""What vLLM's servers are told where verl 0.9.1 leaves it open. Each changes a rollout's configuration in place."""

from __future__ import annotations

from omegaconf import DictConfig


def fit_length(rollout: DictConfig) -> None:
    """`max_model_len` is the longest prompt and its response, where it is not set.

    verl takes all positions that the model has, 128,000 of Qwen2.5-VL. vLLM runs its vision tower on a clip that fills
    them to see what that takes, and keeps room for a sequence of that length: gigabytes that no rollout uses. The clip
    also says how many tokens of vision a request may have. Now that is as many as are computed at once, so they are as
    many as a prompt has.
    """
    if rollout.max_model_len is None:
        rollout.max_model_len = rollout.prompt_length + rollout.response_length
        rollout.max_num_batched_tokens = max(rollout.max_num_batched_tokens, rollout.prompt_length)


def log_whole_distribution(rollout: DictConfig) -> None:
    """Log-probabilities of a rollout are over the whole vocabulary, as the policy's are, and not over what top-p and
    top-k leave of it. For runs that only look at the gap between the two: a correction for it needs the others. At
    another temperature than 1 vLLM's are not the policy's either way."""
    if rollout.temperature == 1:
        rollout.logprobs_mode = "raw_logprobs"
