"""Settings that do not go with an evaluation: a line for each, that says which key mends it."""

from __future__ import annotations

from collections.abc import Iterator

from omegaconf import DictConfig

from verl_care.settings import is_number, unknown_key

NODE = ("run", "samples", "retry_failed", "allow_training_prompts")


def problems(config: DictConfig) -> Iterator[str]:
    """What would make other answers than it says, or lose some."""
    rollout, data, trainer = config.actor_rollout_ref.rollout, config.data, config.trainer
    for key in config.evaluation:
        if key not in NODE:
            yield unknown_key("evaluation", str(key), NODE)
    if not config.evaluation.run:
        yield "evaluation.run=null: the answers need a folder. Set evaluation.run to one, of your choice."
    samples = rollout.val_kwargs.n
    if not is_number(samples) or samples < 1:
        yield f"actor_rollout_ref.rollout.val_kwargs.n={samples}: samples of a question. Set it to 1 or more."
    for key, found, wanted, why in (
        ("trainer.v1.trainer_mode", trainer.v1.trainer_mode, "care_evaluate", "another would train"),
        ("trainer.val_only", trainer.val_only, True, "nothing is trained here"),
        ("trainer.val_before_train", trainer.val_before_train, True, "it is the evaluation"),
        ("trainer.resume_mode", trainer.resume_mode, "disable", "there is no training to resume"),
        ("trainer.nnodes", trainer.nnodes, 1, "answers are appended to one file, by processes of one machine"),
        (
            "actor_rollout_ref.rollout.agent.default_agent_loop",
            rollout.agent.default_agent_loop,
            "care_evaluate",
            "it writes the answers",
        ),
        ("data.custom_cls.name", data.custom_cls.name, "EvaluationDataset", "it knows what is answered already"),
        ("data.filter_overlong_prompts", data.filter_overlong_prompts, False, "overlong questions count as failed"),
        ("data.shuffle", data.shuffle, False, "data.val_max_samples means the first ones"),
        ("actor_rollout_ref.rollout.free_cache_engine", rollout.free_cache_engine, False, "nothing else needs the GPU"),
        (
            "actor_rollout_ref.rollout.val_kwargs.do_sample",
            rollout.val_kwargs.do_sample,
            True,
            "verl 0.9.1 does not look at it; greedy is actor_rollout_ref.rollout.val_kwargs.temperature=0",
        ),
    ):
        if found != wanted:
            yield f"{key}={found}: {why}. Set {key}={wanted}."
    if "dummy" in str(rollout.load_format):
        yield (
            f"actor_rollout_ref.rollout.load_format={rollout.load_format}: random weights would answer."
            " Set actor_rollout_ref.rollout.load_format=auto."
        )
    lora = config.actor_rollout_ref.model.get("lora_adapter_path")
    if lora:
        yield (
            f"actor_rollout_ref.model.lora_adapter_path={lora}: the server loads the folder alone. Merge the adapter"
            " into a folder, and set actor_rollout_ref.model.path to that."
        )
