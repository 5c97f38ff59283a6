"""What `CareTrainer._add_bonus` reads from TransferQueue and writes to it, with a queue made of dictionaries."""

from types import SimpleNamespace

import pytest
import torch
from tensordict import NonTensorStack, TensorDict

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


class Queue:
    def __init__(self, choices):
        self.written = {}
        self.rows = {
            key: {
                "uid": "prompt 1",
                "rm_scores": torch.tensor([0.0] * (len(ids) - 1) + [float(key == RIGHT) + 1]),
                "ref_log_prob": torch.full((len(ids),), -0.5),
                "responses": torch.tensor(ids),
                "response_mask": torch.ones(len(ids)),
                "reward_model": {"ground_truth": TRUTH},
                CHOICE: torch.tensor([PROMPT, *choices[key], PROMPT]),  # a prompt of two tokens, and one behind the end
                "extra_fields": {
                    "reward_extra_info": {
                        "accuracy": float(key == RIGHT), "format": 1.0, "problem_type": "multiple choice",
                        "answer_start": SPANS[key][0], "answer_stop": SPANS[key][1],
                    }
                },
            }
            for key, ids in RESPONSES.items()
        }  # fmt: skip
        self.rows["pad"] = {"response_mask": torch.zeros(1)}

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
    def add_bonus(choices=RESPONSES, padding=(), **care):
        queue, metrics = Queue(choices), {}
        for place in (scoring, step):
            monkeypatch.setattr(place, "tq", queue)
        trainer = object.__new__(CareTrainer)
        trainer.care, trainer.use_reference_policy = CareConfig(**care), True
        trainer.failed_prompts = SimpleNamespace(media_failures=lambda: 0.0)
        trainer._scored = set(RESPONSES)
        trainer.tokenizer = SimpleNamespace(decode=lambda ids, **_: "".join(WORDS[i] for i in ids))
        keys = [*RESPONSES, *padding]
        tags = [{"is_padding": key in padding, "prompt_len": 2} for key in keys]
        trainer._add_bonus(SimpleNamespace(keys=keys, tags=tags, partition_id="train"), metrics)
        return queue.written, metrics

    return add_bonus


def test_care_adds_the_bonus_to_the_last_token(add_bonus):
    written, _ = add_bonus()
    # only one is right, and alone in S: 1 + 1 + 0.5 * 1
    assert written == {"rm_scores": {RIGHT: [0, 0, 0, 2.5], WRONG: [0, 0, 0, 0, 1]}}


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
