"""What the reference is asked: the answers of selected responses, and nothing where nothing is selected."""

import pytest
import torch
import transfer_queue as tq
from hypothesis import given
from hypothesis import strategies as st
from tensordict import TensorDict

from verl_care import scoring
from verl_care.algorithm.consistency import consistency_bonus, needs_likelihood
from verl_care.rewards.manager import NO_SPAN

TOKENS = 6


class Queue:
    """TransferQueue in a dictionary: key -> field -> value."""

    def __init__(self, rows):
        self.rows = rows

    def kv_batch_get(self, keys, partition_id, select_fields):
        data = TensorDict({}, batch_size=len(keys))
        for name in select_fields:
            values = [self.rows[key][name] for key in keys]
            if isinstance(values[0], torch.Tensor):
                data[name] = torch.nested.as_nested_tensor(values, layout=torch.jagged)
            else:
                from verl.utils import tensordict_utils as tu

                tu.assign_non_tensor_stack(data, name, values)
        return data

    def kv_batch_put(self, keys, partition_id, fields):
        for name in fields.keys():  # noqa: SIM118 - a TensorDict is no dict
            for key, value in zip(keys, scoring.column(fields, name), strict=True):
                self.rows[key][name] = value


def row(uid, accuracy, span=(3, 5), log_prob=0.0):
    info = {"accuracy": accuracy, "format": 1.0, "answer_start": span[0], "answer_stop": span[1]}
    return {"uid": uid, "extra_fields": {"reward_extra_info": info}, "ref_log_prob": torch.full((TOKENS,), log_prob)}


@pytest.fixture
def queue(monkeypatch):
    rows = {
        "a_0_0": row("a", 1.0, log_prob=-1.0),
        "a_1_0": row("a", 0.0),
        "a_2_0": row("a", 1.0, span=(NO_SPAN, NO_SPAN)),
        "b_0_0": row("b", 0.0),
        "b_1_0": row("b", 0.0),
        "c_0_0": row("c", 1.0, span=(1, 2), log_prob=-2.0),
        "pad_0_0": row("pad", 1.0),
    }
    queue = Queue(rows)
    monkeypatch.setattr(scoring.tq, "kv_batch_get", queue.kv_batch_get)
    monkeypatch.setattr(scoring.tq, "kv_batch_put", queue.kv_batch_put)
    return queue


@pytest.fixture
def batch(queue):
    tags = [
        {"prompt_len": 10, "response_len": TOKENS, "seq_len": 16, "is_padding": key.startswith("pad")}
        for key in queue.rows
    ]
    return tq.KVBatchMeta(keys=list(queue.rows), tags=tags, partition_id="train", extra_info={"temperature": 1.0})


def test_only_selected_responses_are_asked_for(batch):
    graded = scoring.Graded.of(batch)
    assert graded.keys == ["a_0_0", "a_1_0", "a_2_0", "b_0_0", "b_1_0", "c_0_0"]  # no padding
    assert graded.keys_to_score("hard", 0.1) == ["a_0_0", "c_0_0"]  # a_2_0 is right but has no answer span


def test_a_response_of_several_rows_is_refused(batch, queue):
    """verl would give both the span of the second."""
    several = batch.select_keys(["a_0_0", "a_1_0"])
    several.keys[1] = "a_0_1"
    with pytest.raises(ValueError, match=r"row a_0_1: .*Set actor_rollout_ref.rollout.agent.default_agent_loop"):
        scoring.Graded.of(several)


def test_their_answers_alone_are_wanted(batch, queue):
    graded = scoring.Graded.of(batch)
    part = scoring.answers_only(batch, graded, ["a_0_0", "c_0_0"], ranks=1)
    assert sorted(part.keys) == ["a_0_0", "c_0_0"]
    assert part.extra_info == {"temperature": 1.0, "logits_wanted_in": "answer_mask"}
    assert queue.rows["a_0_0"]["answer_mask"].int().tolist() == [0, 0, 0, 1, 1, 0]
    assert queue.rows["c_0_0"]["answer_mask"].int().tolist() == [0, 1, 0, 0, 0, 0]
    assert batch.extra_info == {"temperature": 1.0}  # the update does not inherit it


def test_a_batch_that_lists_its_fields_asks_for_the_mask_too(batch):
    batch.fields = ["input_ids"]
    part = scoring.answers_only(batch, scoring.Graded.of(batch), ["a_0_0"], ranks=1)
    assert part.fields == ["input_ids", "answer_mask"]
    assert batch.fields == ["input_ids"]


def test_ranks_are_filled_up_from_prompts_that_are_computed_anyway(batch, queue):
    graded = scoring.Graded.of(batch)
    part = scoring.answers_only(batch, graded, ["a_0_0", "c_0_0"], ranks=3)
    assert sorted(part.keys) == ["a_0_0", "a_1_0", "c_0_0"]
    assert queue.rows["a_1_0"]["answer_mask"].int().tolist() == [1, 0, 0, 0, 0, 0]


def test_likelihoods_are_of_scored_responses(batch):
    graded = scoring.Graded.of(batch)
    likelihood_N = graded.likelihood_N({"a_0_0", "c_0_0"}, "train", "geometric")
    assert likelihood_N.isnan().tolist() == [False, True, True, True, True, False]
    assert likelihood_N[[0, 5]].tolist() == pytest.approx([0.36788, 0.13534], abs=1e-5)  # exp(-1), exp(-2)
    assert graded.likelihood_N(set(), "train", "geometric").isnan().all()


responses = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from([0.0, 0.05, 0.1, 0.5, 1.0]), st.booleans(), st.floats(0.01, 1.0)),
    min_size=1,
    max_size=20,
)


@given(responses=responses, bonus=st.sampled_from(["hard", "dense", "none"]))
def test_the_others_would_not_have_changed_the_bonus(responses, bonus):
    group_N = torch.tensor([group for group, *_ in responses])
    accuracy_N = torch.tensor([accuracy for _, accuracy, *_ in responses])
    answered_N = torch.tensor([answered for _, _, answered, _ in responses])
    likelihood_N = torch.tensor([likelihood for *_, likelihood in responses])
    full_N = torch.where(answered_N, likelihood_N, torch.nan)
    needed_N = needs_likelihood(accuracy_N, answered_N, group_N, bonus=bonus)
    all_scored = consistency_bonus(accuracy_N, full_N, group_N, bonus=bonus)
    some_scored = consistency_bonus(accuracy_N, torch.where(needed_N, full_N, torch.nan), group_N, bonus=bonus)
    assert torch.equal(all_scored.bonus_N, some_scored.bonus_N)
    assert torch.equal(all_scored.selected_N, some_scored.selected_N)
    torch.testing.assert_close(all_scored.threshold_N, some_scored.threshold_N, rtol=0, atol=0, equal_nan=True)
