"""The reward of one response: what is graded, where its answer's tokens are, and that nothing a model writes raises."""

import asyncio
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from tensordict import TensorDict
from verl import DataProto
from verl.experimental.reward_loop.reward_manager import get_reward_manager_cls

from recipes.quickstart.model import SPECIAL_TOKENS, build_tokenizer
from verl_care.rewards.grading import GRADERS
from verl_care.rewards.manager import NO_SPAN, CareRewardManager


class FakeTokenizer:
    """Token i is text i; the last two are special."""

    texts = ("<think>", "so", "</think>", "\n", "<", "answer", ">A", ">", "</", "B", "<|im_end|>", "<|pad|>")
    all_special_ids = (10, 11)

    def decode(self, ids, skip_special_tokens=False):
        return "".join(self.texts[i] for i in ids if not (skip_special_tokens and i in self.all_special_ids))


FINISHED = [0, 1, 2, 3, 4, 5, 6, 8, 5, 7, 10]  # <think>so</think>\n<answer>A</answer><|im_end|>; `>A` is token 6


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


@pytest.fixture(scope="module")
def manager(tokenizer):
    return make(tokenizer)


def make(tokenizer):
    async def inside_a_loop():  # verl's base class asks for the running loop
        return CareRewardManager(OmegaConf.create({}), tokenizer)

    return asyncio.run(inside_a_loop())


def test_verl_finds_it_by_name():
    assert get_reward_manager_cls("care") is CareRewardManager


def test_a_right_answer_in_the_right_format():
    score = make(FakeTokenizer()).score(FINISHED, "<answer>A</answer>", "multiple choice", "seed_bench", 17)
    assert score == {
        "reward_score": 2.0,  # 1 for the answer, 1 for the format
        "reward_extra_info": {
            "acc": 1.0,
            "accuracy": 1.0,
            "format": 1.0,
            "answer_start": 6,
            "answer_stop": 7,
            "problem_type": "multiple choice",
            "data_source": "seed_bench",
            "id": "17",
        },
    }


@pytest.mark.parametrize(
    ("ids", "truth", "accuracy", "form", "span"),
    [
        (FINISHED, "B", 0.0, 1.0, (6, 7)),
        (FINISHED[:-1], "A", 1.0, 1.0, (6, 7)),  # cut off at the length limit, but closed
        (FINISHED[:-2], "A", 0.0, 0.0, (NO_SPAN, NO_SPAN)),  # ... before the last bracket
        (FINISHED[:7], "A", 0.0, 0.0, (NO_SPAN, NO_SPAN)),
        (FINISHED[4:], "A", 1.0, 0.0, (2, 3)),  # no reasoning
        ([11, 11, *FINISHED], "A", 1.0, 1.0, (8, 9)),  # special tokens are no text, but they are tokens
        ([*FINISHED[:6], 11, *FINISHED[6:]], "A", 1.0, 1.0, (7, 8)),  # one between the tag and its bracket
        ([*FINISHED[:7], 11, *FINISHED[7:]], "A", 1.0, 1.0, (6, 8)),  # one behind the letter
        ([*FINISHED, *FINISHED], "A", 1.0, 1.0, (6, 7)),  # the first block is judged and scored
        ([4, 5, 7, 8, 5, 7], "A", 0.0, 0.0, (NO_SPAN, NO_SPAN)),  # an empty answer
        ([], "A", 0.0, 0.0, (NO_SPAN, NO_SPAN)),
        ([10], "A", 0.0, 0.0, (NO_SPAN, NO_SPAN)),
    ],
)
def test_shapes_of_a_response(ids, truth, accuracy, form, span):
    score = make(FakeTokenizer()).score(ids, truth, "multiple choice")
    info = score["reward_extra_info"]
    assert (info["accuracy"], info["format"]) == (accuracy, form)
    assert (info["answer_start"], info["answer_stop"]) == span
    assert score["reward_score"] == accuracy + form
    assert info["acc"] == info["accuracy"]


def test_fields_for_the_dump_are_the_rows(manager):
    info = manager.score([], "A", "regression", "video_r1", None)["reward_extra_info"]
    assert (info["problem_type"], info["data_source"], info["id"]) == ("regression", "video_r1", "")
    json.dumps(info)


def test_an_unknown_problem_type_is_told(manager):
    with pytest.raises(ValueError, match="'multiple-choice', which no rule grades"):
        manager.score([], "A", "multiple-choice")


@pytest.mark.parametrize(
    "text",
    [
        "<think>seen nothing</think>\n<answer>B</answer><|im_end|>",
        "<think></think><answer> B </answer><|im_end|><|endoftext|>",
        "no tags at all",
        "<answer>3.14</answer> and more",
        "<think>é 视频 🎬</think> <answer>答案 🎬</answer>",
    ],
)
def test_the_span_holds_the_answer_of_a_real_tokenizer(manager, tokenizer, text):
    ids = tokenizer.encode(text)
    info = manager.score(ids, "B", "multiple choice")["reward_extra_info"]
    if "<answer>" not in text:
        assert info["answer_start"] == NO_SPAN
        return
    answer = text.split("<answer>")[1].split("</answer>")[0]
    spanned = tokenizer.decode(ids[info["answer_start"] : info["answer_stop"]])
    assert spanned.removeprefix(">").strip() == answer.strip()


@pytest.mark.parametrize("special", SPECIAL_TOKENS)
@pytest.mark.parametrize(("before", "behind"), [("<answer>B", "</answer>"), ("<answer>B</answer>", " more")])
def test_special_tokens_are_neither_graded_nor_scored(manager, tokenizer, special, before, behind):
    ids = [*tokenizer.encode(before), tokenizer.convert_tokens_to_ids(special), *tokenizer.encode(behind)]
    info = manager.score(ids, "B", "multiple choice")["reward_extra_info"]
    assert info["accuracy"] == 1.0
    spanned = tokenizer.decode(ids[info["answer_start"] : info["answer_stop"]], skip_special_tokens=True)
    assert spanned.endswith("B")


@pytest.mark.parametrize(
    "special",
    [
        "<|endoftext|>",
        "<|im_end|>",
        "<|box_start|>",  # special in tokenizer.json alone
    ],
)
def test_what_is_judged_and_what_is_scored_are_one_text(manager, tokenizer, special):
    ids = [*tokenizer.encode("<ans"), tokenizer.convert_tokens_to_ids(special), *tokenizer.encode("wer>B</answer>")]
    info = manager.score(ids, "B", "multiple choice")["reward_extra_info"]
    assert info["accuracy"] == 1.0
    assert info["answer_start"] != NO_SPAN


@pytest.mark.parametrize("problem_type", sorted(GRADERS))
@pytest.mark.parametrize("truth", ["A", "3.5", "", "<answer>nan</answer>"])
def test_hostile_text_never_raises(manager, tokenizer, problem_type, truth):
    for text in (
        "<answer>" * 500,
        "</answer>" * 500,
        "<think>" * 200 + "<answer>1e999999</answer>",
        "<answer>--1,,,.</answer>",
        "<answer>\x00\x1b[2J\u202e\ufffd</answer>",
        "<answer>" + "9" * 5000 + "</answer>",
        "<answer>{} %s ${x} \\</answer>",
        "<answer>　</answer>",
    ):
        score = manager.score(tokenizer.encode(text), truth, problem_type)
        assert 0 <= score["reward_extra_info"]["accuracy"] <= 1


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_no_sequence_of_tokens_raises(manager, tokenizer, data):
    # any ids at all: halves of characters, special tokens in any place
    tags = [tokenizer.encode("<answer>"), tokenizer.encode("</answer>"), tokenizer.encode("</think>")]
    pieces = st.one_of(st.sampled_from(tags), st.lists(st.integers(0, len(tokenizer) - 1), max_size=4))
    ids = [token for piece in data.draw(st.lists(pieces, max_size=12)) for token in piece]
    score = manager.score(ids, "A", data.draw(st.sampled_from(sorted(GRADERS))))
    info = score["reward_extra_info"]
    has_span = info["answer_start"] != NO_SPAN
    assert has_span == (info["answer_stop"] != NO_SPAN)
    if has_span:
        assert 0 <= info["answer_start"] < info["answer_stop"] <= len(ids)
    if info["accuracy"] > 0:
        assert has_span  # nobody is right without an answer


def test_verls_reward_loop_calls_it_with_a_padded_row(tokenizer):
    ids = tokenizer.encode("<think>so</think>\n<answer>B</answer><|im_end|>")
    padded = torch.tensor([ids + tokenizer.encode(" what stands behind a response is none of it")])
    data = DataProto(
        batch=TensorDict({"responses": padded}, batch_size=1),
        non_tensor_batch={
            "response_len": np.array([len(ids)]),
            "reward_model": np.array([{"ground_truth": "<answer>B</answer>", "style": "rule"}]),
            "extra_info": np.array([{"problem_type": "multiple choice", "id": "a-1"}]),
            "data_source": np.array(["seed_bench_r1"]),
        },
    )

    async def run():
        return await CareRewardManager(OmegaConf.create({}), tokenizer).run_single(data)

    score = asyncio.run(run())
    assert score["reward_score"] == 2.0
    assert score["reward_extra_info"]["id"] == "a-1"
    assert score["reward_extra_info"]["answer_stop"] <= len(ids)
