"""What an evaluation reads of a data row, new or old, and what it writes of an answer."""

from __future__ import annotations

import pytest

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
