"""The updates of a recorded training, made once more in plain PyTorch.

Its rewards are taken as they are. What verl makes of them is made here by `recipes.evidence.learner`, step upon step
from the warm start, without verl; advantages by verl_care's own `group_advantage`.

A record has texts, not tokens: where the tokenizer's spelling is improbable or has another length, the likeliest one
is taken (`spelling.py`). A response for which none is found keeps the tokenizer's; `Replay.lost` counts these.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from omegaconf import OmegaConf
from torch import Tensor
from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

from recipes.evidence.learner import Learner, Step, Update, token_log_probs
from recipes.evidence.replay.spelling import likeliest, pieces_of
from recipes.evidence.simulator import END
from recipes.quickstart.examples import Example, load_chunk, scored_logits
from recipes.quickstart.packing import pack
from verl_care.records import groups, jsonl

WANTED = {
    "algorithm.adv_estimator": "care",
    "algorithm.norm_adv_by_std_in_grpo": True,
    "algorithm.use_kl_in_reward": False,
    "care.kl_on": "all",
    "care.kl_parts": "joint",
    "actor_rollout_ref.rollout.temperature": 1.0,
    "actor_rollout_ref.actor.policy_loss.loss_mode": "vanilla",
    "actor_rollout_ref.actor.loss_agg_mode": "seq-mean-token-mean",
    "actor_rollout_ref.actor.kl_loss_type": "low_var_kl",
    "actor_rollout_ref.actor.entropy_coeff": 0,
    "actor_rollout_ref.actor.ppo_epochs": 1,
    "actor_rollout_ref.actor.freeze_vision_tower": False,
    "actor_rollout_ref.actor.optim.optimizer": "AdamW",
    "actor_rollout_ref.actor.optim.lr_scheduler_type": "constant",
    "actor_rollout_ref.actor.optim.lr_warmup_steps": 0,
}
"""What an update made here has; a training with anything else is refused."""
IMPROBABLE = -5.0  # log-probability of a token that makes a spelling doubtful


def update_of(config: Any) -> Update:
    """What a training's configuration says of its updates.

    Raises:
        ValueError: naming what is not made here.
    """
    actor = config.actor_rollout_ref.actor
    optim = actor.optim
    for key, wanted in WANTED.items():
        found = OmegaConf.select(config, key)
        if found != wanted:
            raise ValueError(f"{key} was {found}: only a training with {wanted} is made once more here")
    written, prompts = config.care.groups_per_step, config.data.train_batch_size
    if actor.ppo_mini_batch_size != prompts:
        raise ValueError(f"ppo_mini_batch_size was {actor.ppo_mini_batch_size}: a step has one update here")
    if written != groups.ALL and written < prompts:
        raise ValueError(f"care.groups_per_step was {written}: of {prompts} groups a step, the others are not known")
    return Update(
        lr=optim.lr,
        clip=optim.clip_grad,
        kl=actor.kl_loss_coef if actor.use_kl_loss else 0.0,
        decay=None if config.care.reference == "frozen" else config.care.ref_ema_decay,
        every=config.care.ref_ema_update_every,
        betas=tuple(optim.betas),
        weight_decay=optim.weight_decay,
    )


class Replay(Learner):
    def __init__(self, model: Qwen2_5_VLForConditionalGeneration, tokenizer: Any, update: Update) -> None:
        super().__init__(model, update)
        self.tokenizer = tokenizer
        self.end = tokenizer.convert_tokens_to_ids(END)
        self.pieces = pieces_of(tokenizer)
        pads = {model.config.image_token_id, model.config.video_token_id}
        self.silent = [token for token in tokenizer.added_tokens_decoder if token not in {self.end, *pads}]
        self.respelled = self.lost = 0

    def step(self, examples: Sequence[Example], recorded: Sequence[Mapping[str, Any]]) -> Step:
        """The update by these groups, a question's example for each."""
        asked = [example for example, group in zip(examples, recorded, strict=True) for _ in group["responses"]]
        responses = [response for group in recorded for response in group["responses"]]
        reward_N = torch.tensor([response["reward"] for response in responses])
        return self.learn(examples, self._spell(examples, asked, responses), reward_N)

    @torch.no_grad()
    def _spell(
        self, examples: Sequence[Example], asked: Sequence[Example], responses: Sequence[Mapping[str, Any]]
    ) -> list[list[int]]:
        """The tokens of every response; `asked` are their questions."""
        tokens = [self._as_tokenized(response) for response in responses]
        log_prob_T = token_log_probs(self.policy, examples, tokens)
        known: dict[tuple[str, str, int], list[int] | None] = {}
        for place, log_prob in enumerate(log_prob_T.split([len(response) for response in tokens])):
            example, response = asked[place], responses[place]
            if log_prob.min() >= IMPROBABLE and len(tokens[place]) == response["length"]:
                continue
            key = (example.id, response["text"], response["length"])
            if key not in known:
                known[key] = self._likeliest(example, response)
            spelled = known[key]
            if spelled is None:
                self.lost += 1
            elif spelled != tokens[place]:
                self.respelled += 1
                tokens[place] = spelled
        return tokens

    def _as_tokenized(self, response: Mapping[str, Any]) -> list[int]:
        tokens = self.tokenizer(response["text"], add_special_tokens=False)["input_ids"]
        return [*tokens, self.end] if response["finish"] == "stop" else tokens

    def _likeliest(self, example: Example, response: Mapping[str, Any]) -> list[int] | None:
        def log_probs(beginnings: Sequence[Sequence[int]]) -> Tensor:
            # whatever stands behind a beginning: it is not looked at
            asked = [[*beginning, self.end] for beginning in beginnings]
            weights = [[*(0.0 for _ in beginning), 1.0] for beginning in beginnings]
            assert example.positions_3L is not None
            packed = pack([example.prompt], [asked], [weights], [example.positions_3L])
            return scored_logits(self.policy, packed, [example]).log_softmax(-1)

        end = self.end if response["finish"] == "stop" else None
        return likeliest(log_probs, self.pieces, response["text"], response["length"], end, self.silent)


def replay(training: Path, model: Path, data: Path, steps: int | None = None) -> Iterator[tuple[int, Step, Replay]]:
    """(step, what it was here, the replay behind it), from the first step to the last or to `steps`.

    Raises:
        ValueError: for a step that the record lacks.
    """
    processor = AutoProcessor.from_pretrained(model)
    policy = Qwen2_5_VLForConditionalGeneration.from_pretrained(model).float()
    made = Replay(policy, processor.tokenizer, update_of(OmegaConf.load(training / "config.yaml")))
    rows = {row["extra_info"]["id"]: row for row in pq.read_table(data / "training_6k.parquet").to_pylist()}
    recorded_steps = sorted(_by_step(groups.valid(jsonl.read(groups.place(training)))).items())
    for number, (step, recorded) in enumerate(recorded_steps[:steps], start=1):
        if step != number:
            raise ValueError(f"{groups.place(training)} lacks step {number}: no step behind it can be made once more")
        examples = load_chunk([rows[group["id"]] for group in recorded], processor, policy)
        yield step, made.step(examples, recorded), made


def _by_step(records: Iterable[Mapping[str, Any]]) -> dict[int, list[Mapping[str, Any]]]:
    found: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for record in records:
        found[record["step"]].append(record)
    return found
