"""Consistency at validation: what is read of a batch, what is written back, and which means are logged."""

import math
from types import SimpleNamespace

import pytest
import torch
import transfer_queue as tq
from omegaconf import OmegaConf

from tests.unit.test_scoring import Queue
from verl_care import validation
from verl_care.consistency_measures.calibration import Calibration
from verl_care.consistency_measures.summary import validation_metrics
from verl_care.settings import CareConfig
from verl_care.validation import Answers, Watched, text_of

WORDS = ["<think>", "so heat", "so bake", "</think>", "<answer", ">A", ">B", "</answer>", "<eos>"]
HEAT, BAKE = 1, 2
A, B = 5, 6
ROOM = 40


def words(ids, skip_special_tokens=True):
    return "".join(WORDS[i] for i in ids if WORDS[i] != "<eos>")


def row(uid, conclusion, letter, log_prob):
    ids = [0, conclusion, 3, 4, letter, 7, 8]
    info = {"accuracy": 1.0, "format": 1.0, "answer_start": 4, "answer_stop": 5, "id": uid}
    return {
        "uid": uid,
        "responses": torch.tensor(ids),
        "raw_prompt": [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "what next?"}]}],
        "extra_info": {"options": ["heat", "bake"]},
        "extra_fields": {"reward_extra_info": info},
        "ref_log_prob": torch.full((len(ids),), log_prob),
    }


class Tokenizer:
    eos_token_id = 8

    def decode(self, ids, skip_special_tokens=True):
        return words(ids)

    def apply_chat_template(self, chat, tokenize, add_generation_prompt):
        return f"user: {chat[0]['content']} assistant:"

    def __call__(self, text, add_special_tokens):
        assert text == "user: what next? assistant:"
        return {"input_ids": [100, 101]}


@pytest.fixture
def queue(monkeypatch):
    rows = {"a_0_0": row("a", HEAT, A, math.log(0.8)), "b_0_0": row("b", HEAT, B, math.log(0.1))}
    rows["c_0_0"] = row("c", BAKE, B, 0.0)
    rows["c_0_0"]["extra_fields"]["reward_extra_info"].update(answer_start=-1, answer_stop=-1)
    rows["c_0_0"]["responses"] = torch.tensor([0, BAKE, 3])  # cut off before its answer
    queue = Queue(rows)
    monkeypatch.setattr(tq, "kv_batch_get", queue.kv_batch_get)
    monkeypatch.setattr(tq, "kv_batch_put", queue.kv_batch_put)
    return queue


class Verl:
    """What of verl's trainer is called."""

    asked: list

    def _compute_ref_log_prob(self, batch, metrics):
        self.asked.append(f"reference at {self.config.actor_rollout_ref.rollout.temperature}")


class Trainer(validation.MeasuredValidation, Verl):
    pass


@pytest.fixture
def trainer():
    """A trainer whose reference pass and rollout servers are lists of what they were asked."""

    def trainer(**care):
        made = Trainer()
        made.care = CareConfig(packing=False, **care)
        rollout = {"free_cache_engine": True, "temperature": 0.7, "max_model_len": ROOM}
        kl = {"algorithm": {"use_kl_in_reward": False}, "data": {}}
        made.config = OmegaConf.create(
            {"actor_rollout_ref": {"actor": {"use_kl_loss": False}, "rollout": rollout}, **kl}
        )
        made.tokenizer, made.global_steps, made._seconds, made.asked = Tokenizer(), 7, {}, []
        made.actor_rollout_wg = SimpleNamespace(world_size=1)
        made.checkpoint_manager = SimpleNamespace(
            sleep_replicas=lambda: made.asked.append("sleep"),
            update_weights=lambda steps: made.asked.append(f"wake at {steps}"),
        )

        class Client:
            async def generate(self, request_id, *, prompt_ids, sampling_params):
                made.asked.append((prompt_ids, sampling_params["temperature"]))
                return SimpleNamespace(token_ids=[A if HEAT in prompt_ids else B, 7, 8])

        made.get_llm_client = Client
        return made

    return trainer


def batch(queue):
    tags = [{"prompt_len": 2, "response_len": 7, "seq_len": 9} for _ in queue.rows]
    return tq.KVBatchMeta(keys=list(queue.rows), tags=tags, partition_id="val")


def written(queue, name):
    return [row["extra_fields"]["reward_extra_info"].get(name) for row in queue.rows.values()]


def test_all_three_measures_of_a_batch(queue, trainer):
    made = trainer(consistency_measures=("contradiction", "agreement", "likelihood"))
    made._measure_consistency(batch(queue))
    # a: heat, A; b: heat, B; c: cut off
    assert written(queue, "consistency_contradiction") == [1.0, 0.0, None]
    assert written(queue, "consistency_agreement") == [1.0, 0.0, None]
    assert written(queue, "consistency_likelihood") == pytest.approx([0.8, 0.1, None])
    assert written(queue, "accuracy") == [1.0] * 3  # what was there stays
    # two answers are asked for again, behind their own tokens up to the answer; then the reference has the device
    prompt = [100, 101, 0, HEAT, 3, 4]
    assert made.asked == [(prompt, 0.0), (prompt, 0.0), "sleep", "reference at 1.0", "wake at 7"]
    assert made.config.actor_rollout_ref.rollout.temperature == 0.7
    assert set(made._seconds) == {"contradiction", "agreement", "likelihood"}


def test_what_is_not_chosen_costs_nothing(queue, trainer):
    made = trainer(consistency_measures=())
    before = dict(queue.rows["a_0_0"])
    made._measure_consistency(batch(queue))
    assert made.asked == []
    assert queue.rows["a_0_0"] == before


def test_a_batch_without_answers_is_left_to_verl(queue, trainer):
    queue.rows.clear()
    made = trainer()
    made._measure_consistency(batch(queue))
    assert made.asked == []


def test_without_a_reference_there_is_no_likelihood(queue, trainer):
    made = trainer(consistency_measures=("likelihood",), bonus="none")
    made._measure_consistency(batch(queue))
    assert made.asked == []
    assert written(queue, "consistency_likelihood") == [None] * 3


def test_a_prompt_that_is_too_long_is_unknown(queue, trainer):
    made = trainer(consistency_measures=("agreement",))
    made.config.actor_rollout_ref.rollout.max_model_len = 10  # 6 of the prompt and 8 of the answer
    made._measure_consistency(batch(queue))
    assert made.asked == []
    assert written(queue, "consistency_agreement") == [None] * 3


def test_a_calibrated_likelihood_stands_beside_the_likelihood(queue, trainer, tmp_path):
    Calibration((0.1, 0.9), (0.0, 0.8), "judge", 9).save(tmp_path / "c.json")
    made = trainer(consistency_measures=("likelihood",), likelihood_calibration=str(tmp_path / "c.json"))
    made._measure_consistency(batch(queue))
    # 0.8 is 7/8 of the way from 0.1 to 0.9: 0.7
    assert written(queue, "consistency_likelihood_calibrated") == pytest.approx([0.7, 0.0, None])


def test_what_is_known_is_averaged_and_the_rest_counted():
    columns = {"consistency_x": [1.0, 0.0, None, None], "consistency_y": [None, None, 0.25, 0.75]}
    assert validation_metrics(["L1", "L1", "L1", "L2"], columns, n=1) == pytest.approx(
        {
            "val-aux/L1/consistency_x_known/mean@1": 2 / 3,
            "val-aux/L1/consistency_x/mean@1": 0.5,
            "val-aux/L2/consistency_x_known/mean@1": 0.0,  # and no mean
            "val-aux/L1/consistency_y_known/mean@1": 1 / 3,
            "val-aux/L1/consistency_y/mean@1": 0.25,
            "val-aux/L2/consistency_y_known/mean@1": 1.0,
            "val-aux/L2/consistency_y/mean@1": 0.75,
        }
    )


def test_a_watched_buffer_hands_on_what_it_has_shown():
    seen = []
    buffer = SimpleNamespace(sample=lambda **asked: (asked["partition_id"], {"evicted": 0}), poll_interval=0.1)
    watched = Watched(buffer, seen.append)
    assert watched.sample(partition_id="val") == ("val", {"evicted": 0})
    assert seen == ["val"]
    assert watched.poll_interval == 0.1


def test_a_message_without_its_media():
    assert text_of("<video><image>what next?") == "what next?"
    assert (
        text_of([{"type": "image"}, {"type": "text", "text": "what"}, {"type": "text", "text": " next?"}])
        == "what next?"
    )


def test_answers_of_rows_without_options(queue):
    queue.rows["a_0_0"]["extra_info"] = {"options": None}
    queue.rows["b_0_0"]["extra_info"] = None
    assert Answers.of(batch(queue), Tokenizer()).options == [[], [], ["heat", "bake"]]
