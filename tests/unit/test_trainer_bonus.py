"""What `CareTrainer` adds to verl's step, without Ray.

The bonus between what is read from TransferQueue and what is written to it, with a queue made of dictionaries; and when
the reference scores at which temperature, and moves how far, with workers that keep a record.
"""

import math
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
import transfer_queue as tq
from omegaconf import OmegaConf
from tensordict import NonTensorStack, TensorDict
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

from verl_care import scoring
from verl_care.ablations import step
from verl_care.ablations.choices import CHOICE
from verl_care.ablations.kl_loss import KL_WEIGHT
from verl_care.settings import CareConfig
from verl_care.trainer import CareTrainer

WORDS = ["so", "<answer", ">A", ">B", "</answer>", "prompt"]
SO, OPEN, A, B, CLOSE, PROMPT = range(6)
RIGHT, WRONG = "p_0_0", "p_1_0"
RESPONSES = {RIGHT: [SO, OPEN, A, CLOSE], WRONG: [SO, SO, OPEN, B, CLOSE]}
SPANS = {RIGHT: (2, 3), WRONG: (3, 4)}
TRUTH = "A"


def row(ids, span, accuracy, log_probs=None, choice=()):
    """One response of the only prompt; its reward is accuracy + 1, for the format."""
    return {
        "uid": "prompt 1",
        "rm_scores": torch.tensor([0.0] * (len(ids) - 1) + [accuracy + 1]),
        "ref_log_prob": torch.tensor(log_probs or [-0.5] * len(ids)),
        "responses": torch.tensor(ids),
        "response_mask": torch.ones(len(ids)),
        "reward_model": {"ground_truth": TRUTH},
        CHOICE: torch.tensor([PROMPT, *choice, PROMPT]),  # a prompt of two tokens, and one behind the end
        "extra_fields": {
            "reward_extra_info": {
                "accuracy": accuracy, "format": 1.0, "problem_type": "multiple choice",
                "answer_start": span[0], "answer_stop": span[1],
            }
        },
    }  # fmt: skip


class Queue:
    def __init__(self, rows):
        self.written = {}
        self.rows = rows | {"pad": {"response_mask": torch.zeros(1)}}

    def kv_batch_get(self, keys, partition_id, select_fields):
        columns = {name: [self.rows[key][name] for key in keys] for name in select_fields}
        return TensorDict(
            {
                name: torch.nested.as_nested_tensor(rows, layout=torch.jagged)
                if isinstance(rows[0], torch.Tensor)
                else NonTensorStack(*rows)
                for name, rows in columns.items()
            },
            batch_size=len(keys),
        )

    def kv_batch_put(self, keys, partition_id, fields):
        for name in fields.keys():  # noqa: SIM118 - a TensorDict iterates over rows
            self.written[name] = dict(zip(keys, (row.tolist() for row in fields[name].unbind()), strict=True))


@pytest.fixture
def add_bonus(monkeypatch):
    def add_bonus(choices=RESPONSES, padding=(), rows=None, **care):
        rows = rows or {
            key: row(ids, SPANS[key], float(key == RIGHT), choice=choices[key]) for key, ids in RESPONSES.items()
        }
        queue, metrics = Queue(rows), {}
        for place in (scoring, step):
            monkeypatch.setattr(place, "tq", queue)
        trainer = object.__new__(CareTrainer)
        trainer.care, trainer.use_reference_policy = CareConfig(**care), True
        trainer.failed_prompts = SimpleNamespace(media_failures=lambda: 0.0)
        trainer._scored = set(rows)
        trainer.tokenizer = SimpleNamespace(decode=lambda ids, **_: "".join(WORDS[i] for i in ids))
        keys = [*rows, *padding]
        tags = [{"is_padding": key in padding, "prompt_len": 2} for key in keys]
        trainer._add_bonus(SimpleNamespace(keys=keys, tags=tags, partition_id="train"), metrics)
        return queue.written, metrics

    return add_bonus


def test_care_adds_the_bonus_to_the_last_token(add_bonus):
    written, _ = add_bonus()
    # only one is right, and alone in S: 1 + 1 + 0.5 * 1
    assert written == {"rm_scores": {RIGHT: [0, 0, 0, 2.5], WRONG: [0, 0, 0, 0, 1]}}


# Under the reference, what the two tokens of each answer are likely at; behind it the geometric and arithmetic mean.
# Three are right, the last is wrong. `q` below is capped, `m` is the mean of the q of those compared.
ANSWERS = [
    (1.0, 0.9604),  # 0.98 and 0.9802, above the cap of 0.95
    (1.0, 0.25),  # 0.5 and 0.625
    (0.25, 0.16),  # 0.2 and 0.205
    (1.0, 0.81),  # 0.9 and 0.905
]
FULLY, PARTLY = (1.0, 1.0, 1.0, 0.0), (0.5, 0.8, 0.6, 0.0)


@pytest.mark.parametrize(
    ("care", "accuracies", "rewards"),
    [
        # m = (0.95 + 0.5 + 0.2) / 3 = 0.55, so the first alone: 1 + 1 + 0.5 * 1
        pytest.param({}, FULLY, [2.5, 2, 2, 1], id="default"),
        # 0.55 - 0.1 = 0.45: the second as well
        pytest.param({"consistency_margin": 0.1}, FULLY, [2.5, 2.5, 2, 1], id="margin"),
        # q = 0.4, 0.4, 0.2 and m = 1 / 3: the first two
        pytest.param({"confidence_upper_bound": 0.4}, FULLY, [2.5, 2.5, 2, 1], id="cap"),
        # the first again: 1 + 1 + 0.25 * 1
        pytest.param({"bonus_coefficient": 0.25}, FULLY, [2.25, 2, 2, 1], id="coefficient"),
        # all three are above 0.1 and above their mean, 1.9 / 4 = 0.475. m = 0.55, the first: 0.5 + 1 + 0.5 * 0.5
        pytest.param({}, PARTLY, [1.75, 1.8, 1.6, 1], id="partial accuracies"),
        # 0.5 is not above 0.5: the first is out. m = (0.5 + 0.2) / 2 = 0.35, the second: 0.8 + 1 + 0.5 * 0.8
        pytest.param({"accuracy_threshold": 0.5}, PARTLY, [1.5, 2.2, 1.6, 1], id="threshold"),
        # each right one 0.5 * 1 * p, without the cap: 0.49, 0.25, 0.1
        pytest.param({"bonus": "dense"}, FULLY, [2.49, 2.25, 2.1, 1], id="dense"),
        # m = (0.95 + 0.625 + 0.205) / 3 = 0.593: the first two
        pytest.param({"likelihood_mean": "arithmetic"}, FULLY, [2.5, 2.5, 2, 1], id="arithmetic"),
    ],
)
def test_each_setting_decides_on_rewards(add_bonus, care, accuracies, rewards):
    rows = {
        f"p_{n}_0": row(
            [SO, OPEN, A, A, CLOSE], (2, 4), accuracy, log_probs=[-3.0, -2.0, math.log(first), math.log(second), -1.0]
        )
        for n, ((first, second), accuracy) in enumerate(zip(ANSWERS, accuracies, strict=True))
    }
    written, _ = add_bonus(rows=rows, **care)
    *before, last = zip(*written["rm_scores"].values(), strict=True)  # a tuple per position
    assert before == [(0, 0, 0, 0)] * 4
    assert last == pytest.approx(rewards)


def test_refgen_pays_for_the_references_answer(add_bonus):
    # the reference agrees with the right one; behind the other reasoning it would have answered A, which is right
    written, metrics = add_bonus({**RESPONSES, WRONG: [SO, SO, OPEN, A, CLOSE]}, bonus="refgen")
    assert written["rm_scores"] == {RIGHT: [0, 0, 0, 2.5], WRONG: [0, 0, 0, 0, 1.5]}
    assert metrics["care/refgen_accuracy"] == 1
    # it agrees with both, so with the wrong answer too
    written, metrics = add_bonus(bonus="refgen", bonus_coefficient=0.25)
    assert written["rm_scores"] == {RIGHT: [0, 0, 0, 2.25], WRONG: [0, 0, 0, 0, 1]}
    assert metrics["care/refgen_accuracy"] == 0.5


def test_refgen_asks_nothing_of_a_response_without_an_answer(add_bonus, monkeypatch):
    monkeypatch.setitem(SPANS, WRONG, (-1, -1))
    written, metrics = add_bonus({RIGHT: RESPONSES[RIGHT], WRONG: []}, bonus="refgen")  # nothing was scored there
    assert written["rm_scores"][WRONG] == [0, 0, 0, 0, 1]
    assert metrics["care/refgen_accuracy"] == 0.5


def test_weights_of_the_kl_term(add_bonus):
    written, _ = add_bonus(bonus="none", kl_on="accurate", kl_parts="separate", padding=("pad",))
    # right: 4 tokens, 2 of reasoning (4/2), 1 of answer (4/1), 1 behind it; padding is one token long
    assert written[KL_WEIGHT] == {RIGHT: [2, 2, 4, 0], WRONG: [0, 0, 0, 0, 0], "pad": [0]}
    assert written["rm_scores"] == {RIGHT: [0, 0, 0, 2], WRONG: [0, 0, 0, 0, 1]}


class Workers:
    """Of both models: what was asked of them, in order."""

    world_size = 1

    def __init__(self):
        self.asked = []

    def update_reference(self, decay):
        self.asked.append(("reference moves", pytest.approx(decay)))
        return [0.25, 0.75]  # one per rank


SAMPLING = 0.7  # temperature of the rollouts


def trainer_with(updates_per_step=1, kl=False, **care):
    trainer = object.__new__(CareTrainer)
    trainer.config = OmegaConf.create(
        {
            "data": {"train_batch_size": 8 * updates_per_step},
            "actor_rollout_ref": {
                "actor": {"ppo_epochs": 1, "ppo_mini_batch_size": 8, "use_kl_loss": kl},
                "rollout": {"temperature": SAMPLING},
            },
            "algorithm": {"use_kl_in_reward": False},
        }
    )
    trainer.care, trainer.timing_raw, trainer.global_steps = CareConfig(**care), {}, 1
    trainer.use_reference_policy = trainer.care.needs_reference(trainer.config)  # as `__init__` has it
    trainer.actor_rollout_wg = Workers()
    return trainer


def batch():
    return tq.KVBatchMeta(keys=[RIGHT], tags=[{}], partition_id="train", fields=["uid"])


@pytest.fixture
def update(monkeypatch):
    """A step's update of the policy: what the workers were asked for, and what was logged."""

    def verls(self, batch, metrics):
        self.actor_rollout_wg.asked.append("policy learns")
        return batch

    def update(trainer, at_step):
        trainer.global_steps, trainer.actor_rollout_wg.asked, metrics = at_step, [], {}
        trainer._update_actor(batch(), metrics)
        return trainer.actor_rollout_wg.asked, metrics

    monkeypatch.setattr(PPOTrainerSync, "_update_actor", verls)
    return update


def test_updates_of_the_reference_due_in_one_step_are_one_move(update):
    trainer = trainer_with(updates_per_step=5, ref_ema_decay=0.9, ref_ema_update_every=2)
    # of updates 1 to 5 those at 2 and 4: 0.9 * 0.9; of 6 to 10 those at 6, 8 and 10: 0.81 * 0.9; of 11 to 15 two again
    for at_step, decay, total in ((1, 0.81, 2), (2, 0.729, 5), (3, 0.81, 7)):
        asked, metrics = update(trainer, at_step)
        assert asked == ["policy learns", ("reference moves", decay)]
        assert metrics == {"care/reference_updates": total, "care/reference_distance": 0.25}


def test_between_two_updates_the_reference_stays(update):
    trainer = trainer_with(ref_ema_decay=0.9, ref_ema_update_every=3)
    assert update(trainer, at_step=2) == (["policy learns"], {"care/reference_updates": 0})
    assert update(trainer, at_step=3)[0] == ["policy learns", ("reference moves", 0.9)]
    assert update(trainer, at_step=4) == (["policy learns"], {"care/reference_updates": 1})


@pytest.mark.parametrize(
    ("settings", "moves"),
    [
        ({"bonus": "hard"}, True),
        ({"bonus": "none", "kl": True}, True),
        ({"bonus": "hard", "reference": "frozen"}, False),
        ({"bonus": "none", "kl": True, "reference": "frozen"}, False),
        ({"bonus": "none"}, False),  # there is no reference
    ],
)
def test_a_reference_moves_if_it_is_there_and_not_frozen(update, settings, moves):
    asked, metrics = update(trainer_with(ref_ema_update_every=1, **settings), at_step=1)
    assert asked == ["policy learns"] + [("reference moves", 0.995)] * moves
    assert ("care/reference_updates" in metrics) == moves


@pytest.fixture
def temperatures(monkeypatch):
    """Those of verl's passes of the reference."""
    seen = []

    def verls(self, batch, metrics):
        seen.append(self.config.actor_rollout_ref.rollout.temperature)
        if "fails" in metrics:
            raise RuntimeError("out of memory")
        return batch

    monkeypatch.setattr(PPOTrainerSync, "_compute_ref_log_prob", verls)
    graded = SimpleNamespace(keys=[RIGHT], keys_to_score=lambda bonus, accuracy_threshold: [RIGHT])
    monkeypatch.setattr(scoring.Graded, "of", lambda batch: graded)
    monkeypatch.setattr(scoring, "answers_only", lambda batch, graded, keys, ranks: batch)
    return seen


@pytest.mark.parametrize("metrics", [{}, {"fails": 1}], ids=["scored", "failed"])
@pytest.mark.parametrize(
    ("settings", "temperature"),
    [
        ({"bonus": "hard"}, 1.0),  # answers alone
        ({"bonus": "hard", "packing": False}, 1.0),  # whole responses
        ({"bonus": "dense", "kl": True}, 1.0),
        ({"bonus": "refgen"}, 1.0),
        ({"bonus": "none", "kl": True}, SAMPLING),  # no likelihood is asked for: verl's own KL term
    ],
)
def test_likelihoods_are_at_temperature_1_and_rollouts_keep_theirs(temperatures, settings, temperature, metrics):
    trainer = trainer_with(**settings)
    with pytest.raises(RuntimeError) if metrics else nullcontext():
        trainer._compute_ref_log_prob(batch(), metrics.copy())
    assert temperatures == [temperature]
    assert trainer.config.actor_rollout_ref.rollout.temperature == SAMPLING
