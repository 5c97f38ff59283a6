"""What an evaluation reads of a data row, new or old, and what it writes of an answer."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verl_care.data.marks import MARKS
from verl_care.data.prompt_length import messages_of
from verl_care.data.prompts import lettered, prompt_text, with_lettered_options, with_options
from verl_care.evaluation.generate.questions import Question

OPTIONS = ["grab onion", "open drawer"]
LETTERED = ("A. grab onion", "B. open drawer")
QUESTION = "What next?\nSay it."


def row(style="released_evaluation", **extra_info):
    text = prompt_text(with_options(QUESTION, OPTIONS), "multiple choice", style)
    return {
        "data_source": "seed_bench_r1/L3",
        "prompt": [{"role": "user", "content": "<video><image>" + text}],
        "reward_model": {"style": "rule", "ground_truth": "B"},
        "extra_info": {"id": "x-1", "problem_type": "multiple choice", "options": OPTIONS, **extra_info},
    }


def test_a_row_of_today():
    question = Question.of(row(question=QUESTION, domain="work", scenario="Baker", duration=None, source="", index=0))
    assert question.key == ("seed_bench_r1/L3", "x-1")
    assert (question.text, question.options, question.ground_truth) == (QUESTION, LETTERED, "B")
    assert question.tags == {"domain": "work", "scenario": "Baker", "index": "0"}
    assert question.wording == "released_evaluation"


@pytest.mark.parametrize("style", ["released", "released_evaluation", "plain"])
def test_a_row_from_before_there_was_a_question_column(style):
    question = Question.of(row(style))
    assert (question.text, question.wording) == (QUESTION, style)


def test_an_open_question_from_before():
    old = row()
    old["extra_info"] |= {"options": [], "problem_type": "numerical"}
    old["prompt"][0]["content"] = "<video>" + prompt_text("Options:\nHow many?", "numerical", "released_evaluation")
    assert Question.of(old).text == "Options:\nHow many?"
    assert Question.of(old).options == ()


def test_what_verls_dataset_makes_of_a_row_is_the_same_question():
    seen = row(question=QUESTION)
    text = seen["prompt"][0]["content"].removeprefix("<video><image>")
    parts = [
        {"type": "video", "video": "clip.mp4"},
        {"type": "image", "image": "now.png"},
        {"type": "text", "text": text},
    ]
    seen["raw_prompt"] = [{"role": "user", "content": parts}]
    assert Question.of(seen) == Question.of(row(question=QUESTION))


def open_row(content):
    """A question without options and `extra_info.question`, with as many media as marks."""
    media = {f"{kind}s": [kind] * content.count(mark) for kind, mark in MARKS.items()}
    return {
        "data_source": "mine",
        "prompt": [{"role": "system", "content": "<- no mark"}, {"role": "user", "content": content}],
        "reward_model": {"ground_truth": "3"},
        "extra_info": {"id": "x", "problem_type": "numerical"},
        **media,
    }


def seen_by_the_agent_loop(row):
    return row | {"raw_prompt": messages_of(row, processor=object())}


PIECES = st.sampled_from([*MARKS.values(), "<vid", "eo>", "<", "image>", "Q", " ", "\n", "Look: "])


@given(st.lists(PIECES, max_size=12).map("".join))
def test_wherever_marks_stand_the_parquet_and_verls_parts_are_the_same_question(content):
    row = open_row(content)
    question = Question.of(row)
    assert question == Question.of(seen_by_the_agent_loop(row))
    assert question.text == "".join(re.split("<image>|<video>|<audio>", content))  # verl 0.9.1, _build_messages


@given(st.lists(st.sampled_from(["<video>", "<image>"])).map("".join), st.text(alphabet="<>video \n"))
def test_marks_in_front_are_all_that_is_taken_from_most_rows(marks, text):
    assert Question.of(open_row(marks + text)).text == text.replace("<video>", "")


@pytest.mark.parametrize("content", ["<video>\n<image>\nQ?", "Look: <video>\nQ?", "Q? <image>"])
def test_a_failure_that_was_written_down_with_its_marks_is_of_the_same_question(content):
    question = Question.of(open_row(content))
    row = question.failed(0, "media: gone", "key")
    assert not question.changed_since(replace(row, question=content.removeprefix("<video>")))
    assert question.changed_since(replace(row, question=content + "!"))


@pytest.mark.parametrize("extra_info", [None, {}, {"id": ""}, {"id": None}])
def test_a_row_without_an_id_is_told(extra_info):
    with pytest.raises(ValueError, match=r"no extra_info\.id"):
        Question.of(row() | {"extra_info": extra_info})


@pytest.mark.parametrize(
    ("options", "made"),
    [
        (OPTIONS, LETTERED),
        (LETTERED, LETTERED),
        (["A) yes", "B) no"], ("A) yes", "B) no")),
        (["(A) yes", "(B) no"], ("(A) yes", "(B) no")),
        (["A yes", "B no"], ("A yes", "B no")),
        (["A cup", "Bowl"], ("A. A cup", "B. Bowl")),  # "Bowl" begins with its letter, and is a word
        (["x"] * 27, ("x",) * 27),  # more than there are letters
        ([], ()),
    ],
)
def test_options_have_their_letters_once(options, made):
    assert lettered(options) == made


def test_options_of_video_r1_are_left_as_they_are():
    made = row()
    made["extra_info"]["options"] = list(LETTERED)
    made["prompt"][0]["content"] = prompt_text(with_lettered_options("Q?", LETTERED), "multiple choice", "released")
    assert (Question.of(made).text, Question.of(made).options) == ("Q?", LETTERED)


def test_the_rows_of_an_answer_and_of_a_failure():
    question = Question.of(row(question=QUESTION, domain="work"))
    answered = question.answered(1, "<answer>B</answer>", "stop", 12, "key")
    failed = question.failed(0, "media: gone", "key")
    assert answered.key == ("seed_bench_r1/L3", "x-1", 1)
    assert (answered.response, answered.finish, answered.response_tokens) == ("<answer>B</answer>", "stop", 12)
    assert (failed.response, failed.finish, failed.failure) == (None, None, "media: gone")
    assert answered.tags == failed.tags == {"domain": "work"}
    assert not question.changed_since(answered)
    assert Question.of(row(question="Another?")).changed_since(answered)
