"""Validation that measures consistency too: `val-aux/<data source>/consistency_<measure>/mean@n`.

verl has no hook between a validation batch's answers and their removal from TransferQueue. There is a call, though, of
its replay buffer, which hands the finished batch over; so while verl validates, the buffer is one that is watched.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import transfer_queue as tq
from omegaconf import DictConfig
from tensordict import TensorDict
from verl.trainer.ppo.padding_utils import upsample_batch_to_divisible_size
from verl.utils import tensordict_utils as tu
from verl.utils.debug import marked_timer

from verl_care import scoring
from verl_care.consistency_measures import agreement, texts
from verl_care.consistency_measures.calibration import Calibration
from verl_care.consistency_measures.contradiction import contradiction
from verl_care.consistency_measures.summary import PREFIX, validation_metrics
from verl_care.packing import media
from verl_care.packing.rows import column
from verl_care.processes.time_limit import within
from verl_care.settings import CareConfig

Column = list[float | None]
_GREEDY = {"temperature": 0.0, "top_p": 1.0, "top_k": -1}
_log = logging.getLogger(__name__)


class Watched:
    """A replay buffer whose batches are looked at before they are handed over."""

    def __init__(self, buffer: Any, look: Callable[[tq.KVBatchMeta], None]):
        self._buffer, self._look = buffer, look

    def __getattr__(self, name: str) -> Any:
        return getattr(self._buffer, name)

    def sample(self, *args: Any, **kwargs: Any) -> tuple[tq.KVBatchMeta, dict]:
        batch, metrics = self._buffer.sample(*args, **kwargs)
        self._look(batch)
        return batch, metrics


@dataclass(frozen=True)
class Answers:
    """A validation batch's responses, as TransferQueue has them."""

    keys: list[str]
    response_ids: list[list[int]]
    texts: list[str]
    messages: list[list[dict[str, Any]]]
    options: list[list[str]]
    extras: list[dict[str, Any]]

    @classmethod
    def of(cls, batch: tq.KVBatchMeta, tokenizer: Any) -> Answers:
        fields = ["responses", "raw_prompt", "extra_info", "extra_fields"]
        data = tq.kv_batch_get(keys=batch.keys, partition_id=str(batch.partition_id), select_fields=fields)
        responses, messages, infos, extras = (column(data, name) for name in fields)
        ids = [response.tolist() for response in responses]
        return cls(
            keys=list(batch.keys),
            response_ids=ids,
            texts=[tokenizer.decode(response, skip_special_tokens=True) for response in ids],
            messages=[list(prompt) for prompt in messages],
            options=[list((info or {}).get("options") or ()) for info in infos],
            extras=extras,
        )

    def put(self, columns: dict[str, Column], partition_id: str) -> None:
        """Beside what the reward manager said of each response; verl dumps it, and hands it to the metrics."""
        rows = zip(*columns.values(), strict=True)
        for extra, values in zip(self.extras, rows, strict=True):
            extra["reward_extra_info"] = extra["reward_extra_info"] | dict(zip(columns, values, strict=True))
        fields = TensorDict({}, batch_size=[len(self.keys)])
        tu.assign_non_tensor_stack(fields, "extra_fields", self.extras)
        tq.kv_batch_put(keys=self.keys, partition_id=partition_id, fields=fields)


class MeasuredValidation:
    """Mixin before verl's trainer: `care.consistency_measures` of each answer of a validation, and what they cost."""

    care: CareConfig
    config: DictConfig
    tokenizer: Any
    global_steps: int
    replay_buffer: Any
    actor_rollout_wg: Any
    checkpoint_manager: Any
    get_llm_client: Callable[[], Any]

    def _validate(self) -> dict[str, float]:
        buffer = self.replay_buffer
        self.replay_buffer = Watched(buffer, self._measure_consistency)
        self._seconds: dict[str, float] = {}
        try:
            with marked_timer("validation", self._seconds):
                metrics = super()._validate()  # type: ignore[misc]
        finally:
            self.replay_buffer = buffer
        return metrics | {f"val-aux/care/{what}_s": seconds for what, seconds in self._seconds.items()}

    def _val_metrics_update(
        self, data_sources: Any, sample_uids: Any, reward_extra_infos_dict: Any, *args: Any, **kwargs: Any
    ) -> dict[str, float]:
        # With some of a question's n values unknown, verl's means would be one of `mean@1`, another of `mean@2`, ...
        names = [name for name in reward_extra_infos_dict if name.startswith(PREFIX)]
        columns = {name: reward_extra_infos_dict.pop(name) for name in names}
        args = (data_sources, sample_uids, reward_extra_infos_dict, *args)
        metrics = super()._val_metrics_update(*args, **kwargs)  # type: ignore[misc]
        return metrics | validation_metrics(data_sources, columns, self.config.actor_rollout_ref.rollout.val_kwargs.n)

    def _measure_consistency(self, batch: tq.KVBatchMeta) -> None:
        chosen = self.care.consistency_measures
        if not chosen or not batch.keys:  # of a batch without answers verl itself has something to say
            return
        answers = Answers.of(batch, self.tokenizer)
        columns: dict[str, Column] = {}
        if "contradiction" in chosen:
            with marked_timer("contradiction", self._seconds):
                pairs = zip(answers.texts, answers.options, strict=True)
                columns[PREFIX + "contradiction"] = [contradiction(text, options) for text, options in pairs]
        if "agreement" in chosen:
            with marked_timer("agreement", self._seconds):
                columns[PREFIX + "agreement"] = self._asked_again(answers)
        if self.care.scores_validation(self.config):
            with marked_timer("likelihood", self._seconds):
                columns |= self._likelihoods(batch)
        if columns:
            answers.put(columns, str(batch.partition_id))

    # ------------------------------------------------------------------ agreement: the policy, without the clip

    def _asked_again(self, answers: Answers) -> Column:
        """The policy answers greedily behind its own reasoning; the prompt has no media this time."""
        graded = [extra["reward_extra_info"] for extra in answers.extras]
        asked = [row for row, info in enumerate(graded) if info["answer_start"] >= 0]
        prompts = {row: self._text_prompt(answers.messages[row]) for row in asked}
        prompts = {row: ids + answers.response_ids[row][: graded[row]["answer_start"]] for row, ids in prompts.items()}
        limits = {
            row: agreement.ANSWER_TOKENS if answers.options[row] else agreement.OPEN_ANSWER_TOKENS for row in asked
        }
        rollout = self.config.actor_rollout_ref.rollout
        room = rollout.max_model_len or rollout.prompt_length + rollout.response_length
        fitting = [row for row in asked if len(prompts[row]) + limits[row] <= room]
        if len(fitting) < len(asked):
            _log.warning("agreement: %d prompts are longer than the model's length", len(asked) - len(fitting))
        continued = asyncio.run(self._generate([prompts[row] for row in fitting], [limits[row] for row in fitting]))
        values: Column = [None] * len(answers.keys)
        for row, ids in zip(fitting, continued, strict=True):
            parts = texts.split(answers.texts[row])
            again = agreement.answer_again(self.tokenizer.decode(ids, skip_special_tokens=True))
            values[row] = agreement.agreement(parts.answer, again, answers.options[row]) if parts else None
        return values

    def _text_prompt(self, messages: Sequence[dict[str, Any]]) -> list[int]:
        kwargs = self.config.data.get("apply_chat_template_kwargs") or {}
        chat = [message | {"content": text_of(message["content"])} for message in messages]
        text = self.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True, **kwargs)
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    async def _generate(self, prompts: Sequence[list[int]], limits: Sequence[int]) -> list[list[int]]:
        client = self.get_llm_client()
        outputs = [
            client.generate(uuid4().hex, prompt_ids=ids, sampling_params={**_GREEDY, "max_tokens": limit})
            for ids, limit in zip(prompts, limits, strict=True)
        ]
        return [list(output.token_ids) for output in await asyncio.gather(*outputs)]

    # ------------------------------------------------------------------ likelihood: the reference

    def _likelihoods(self, batch: tq.KVBatchMeta) -> dict[str, Column]:
        """Of each answer under the reference, at temperature 1; calibrated too, if a calibration is given."""
        graded = scoring.Graded.of(batch)
        answered = [key for key, span in zip(graded.keys, graded.spans, strict=True) if span is not None]
        if answered:
            self._score(batch, graded, answered)
        if self.care.packing:
            media.clear(graded.uid_N)
        mean = self.care.likelihood_mean
        likelihood_N = graded.likelihood_N(set(answered), str(batch.partition_id), mean)  # type: ignore[arg-type]
        columns = {PREFIX + "likelihood": _column(likelihood_N.tolist())}
        if self.care.likelihood_calibration:
            calibration = Calibration.load(Path(self.care.likelihood_calibration))
            columns[PREFIX + "likelihood_calibrated"] = _column(calibration(likelihood_N.numpy()).tolist())
        return columns

    def _score(self, batch: tq.KVBatchMeta, graded: scoring.Graded, keys: list[str]) -> None:
        """verl's reference pass, with the rollout servers asleep as in training, and awake again after it."""
        rollout, ranks = self.config.actor_rollout_ref.rollout, self.actor_rollout_wg.world_size
        asleep = bool(rollout.free_cache_engine)
        if asleep:
            self.checkpoint_manager.sleep_replicas()
        padded = upsample_batch_to_divisible_size(batch, ranks, self.tokenizer.eos_token_id)
        part = scoring.answers_only(padded, graded, keys, ranks) if self.care.packing else padded
        extra_info, temperature = batch.extra_info, rollout.temperature
        part.extra_info = {**(part.extra_info or {})}
        rollout.temperature = self.care.scoring_temperature
        try:
            # Not the trainer's own override, which scores what the bonus of a training step needs.
            super()._compute_ref_log_prob(part, {})  # type: ignore[misc]
        finally:
            rollout.temperature, batch.extra_info = temperature, extra_info
        own = set(batch.keys)
        if padding := [key for key in padded.keys if key not in own]:
            tq.kv_clear(keys=padding, partition_id=str(batch.partition_id))
        if asleep:
            sync = partial(self.checkpoint_manager.update_weights, self.global_steps)
            within(self.care.weight_sync_timeout_s, "the weight sync of validation", sync)


def text_of(content: Any) -> str:
    """What a message says, without its media."""
    if isinstance(content, str):
        return content.replace("<video>", "").replace("<image>", "")
    return "".join(part["text"] for part in content if part.get("type") == "text")


def _column(values: Sequence[float]) -> Column:
    return [None if value != value else value for value in values]
