"""The prompt texts of the released run, to the letter (TencentARC/GRPO-CARE b0628fc): data that a run depends on.
The one hint that it does not have, that of `math`, is ours.

The release has a training wording (`src/r1-v/src/open_r1/grpo.py`) and a slightly different one for evaluation
(`src/eval_bench.py`): "the <think> </think> tags" there is "the <think> and </think> tags" here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

PromptStyle = Literal["released", "released_evaluation", "plain"]

_PONDER = (
    "{question}\nPlease think about this question as if you were a human pondering deeply. Engage in an internal "
    "dialogue using expressions such as 'let me think', 'wait', 'Hmm', 'oh, I see', 'let's break it down', etc, or "
    "other natural language thought expressions It's encouraged to include self-reflection or verification in the "
    "reasoning process. "
)
QUESTION_TRAIN = _PONDER + (
    "Provide your detailed reasoning between the <think> </think> tags, and then give your final answer between the "
    "<answer> </answer> tags."
)
QUESTION_EVALUATE = _PONDER + (
    "Provide your detailed reasoning between the <think> and </think> tags, and then give your final answer between "
    "the <answer> and </answer> tags."
)
ANSWER_HINTS = {
    "multiple choice": " Please provide only the single option letter (e.g., A, B, C, D, etc.) within the "
    "<answer> </answer> tags.",
    "numerical": " Please provide the numerical value (e.g., 42 or 3.14) within the <answer> </answer> tags.",
    "OCR": " Please transcribe text from the image/video clearly and provide your text answer within the "
    "<answer> </answer> tags.",
    "free-form": " Please provide your text answer within the <answer> </answer> tags.",
    "regression": " Please provide the numerical value (e.g., 42 or 3.14) within the <answer> </answer> tags.",
    # Ours: the release has no such problem type.
    "math": " Please provide only the final number or formula (e.g., 42 or \\frac{3}{4}) within the "
    "<answer> </answer> tags.",
}
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
OPTIONS = "Options:\n"


def without_letter(text: str, letter: str) -> str | None:
    """What stands behind an option's letter: "text" of "A. text", "A) text", "A: text", "(A) text", "A text".

    None where the text does not begin with that letter, or goes on with it as a word ("Apple").
    """
    text = text.strip()
    bracketed = text.removeprefix(f"({letter})")
    if bracketed != text:
        return bracketed.strip()
    rest = text.removeprefix(letter)
    if rest == text or rest[:1].isalnum():
        return None
    return (rest[1:] if rest[:1] in (".", ")", ":") else rest).strip()


def without_letters(options: Sequence[str]) -> tuple[str, ...] | None:
    """The texts of options that carry their letters, which all of them do or none: "A cup" beside "Bowl" does not.

    None of options that carry none.
    """
    texts = [without_letter(option, letter) for letter, option in zip(LETTERS, options, strict=False)]
    found = tuple(text for text in texts if text is not None)
    return found if len(found) == len(options) else None


def lettered(options: Sequence[str]) -> tuple[str, ...]:
    """Options as "A. text". Video-R1's carry their letters already ("A. text", "A text"), SEED-Bench-R1's do not."""
    if len(options) > len(LETTERS) or without_letters(options) is not None:
        return tuple(options)
    return tuple(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))


def with_options(question: str, options: Sequence[str]) -> str:
    """The question and its options, which get their letters here; as released there is no space before "Options:"."""
    return with_lettered_options(
        question, [f"{letter}. {text}" for letter, text in zip(LETTERS, options, strict=False)]
    )


def with_lettered_options(question: str, options: Sequence[str]) -> str:
    """As `with_options`, of options that carry their letters already (Video-R1's)."""
    return question + OPTIONS + "".join(f"{option}\n" for option in options)


def prompt_text(question: str, problem_type: str, style: PromptStyle) -> str:
    """The user's text behind the media; `question` with its options. "plain" adds nothing."""
    if style == "plain":
        return question
    template = QUESTION_TRAIN if style == "released" else QUESTION_EVALUATE
    return template.format(question=question) + ANSWER_HINTS[problem_type]


def wording_of(text: str) -> PromptStyle:
    """Which wording the user's text has; "plain" is any that is not the release's."""
    if _wording(QUESTION_TRAIN) in text:
        return "released"
    return "released_evaluation" if _wording(QUESTION_EVALUATE) in text else "plain"


def bare_question(text: str, has_options: bool) -> str:
    """The question of a user's text: without its wording, and without its options."""
    for template in (QUESTION_TRAIN, QUESTION_EVALUATE):
        text = text.partition(_wording(template))[0]
    return text.rpartition(OPTIONS)[0] if has_options and OPTIONS in text else text


def _wording(template: str) -> str:
    return template.removeprefix("{question}")
