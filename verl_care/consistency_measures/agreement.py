"""Agreement: is the same answer given again from the reasoning alone, without the clip? Pure.

The model reads the question and the response up to the answer's first token, and goes on greedily. Text alone tells it
no more of the clip than the reasoning does, so the same answer again means that the reasoning carries it.

The prompt ends with `<answer` and not with `<answer>`: Qwen's tokenizer writes `>A` as one token, and behind a `>` of
its own the model would stand where it never stood in training.
"""

from __future__ import annotations

from collections.abc import Sequence

from verl_care.algorithm.spans import CLOSE, OPEN, answer_block
from verl_care.consistency_measures import texts
from verl_care.data.prompts import prompt_text, with_lettered_options

ANSWER_TOKENS = 8
"""Of a letter and its closing tag Qwen's tokenizer makes five."""
OPEN_ANSWER_TOKENS = 32
"""Of an answer that is no letter."""
_CLOSING = CLOSE[:2]
_BRACKET = OPEN[-1]


def asked_text(question: str, options: Sequence[str], problem_type: str, style: str) -> str:
    """The user's text, as in the question with the clip; `style` as in `verl_care.data.prompts`."""
    lettered = with_lettered_options(question, options) if options else question
    return prompt_text(lettered, problem_type, style)  # type: ignore[arg-type]


def up_to_answer(response: str) -> str | None:
    """A response up to the closing bracket of the first closed answer block's tag; None without such a block."""
    block = answer_block(response)
    return None if block is None else response[: block[0] - len(_BRACKET)]


def answer_again(continuation: str) -> str | None:
    """The answer in what a model writes behind `<answer`; None if it is empty."""
    return continuation.lstrip().removeprefix(_BRACKET).split(_CLOSING, 1)[0].strip() or None


def agreement(answer: str, again: str | None, options: Sequence[str]) -> float | None:
    """1 if two answers are the same, 0 if not.

    With options both are read as options, by letter or text; without, as numbers where both are, else word by word.

    Returns:
        None if `again` is none, or if one of the two names no option.
    """
    if again is None:
        return None
    if options:
        first, second = texts.option_of(answer, options), texts.option_of(again, options)
        return None if first is None or second is None else float(first == second)
    return float(_same_number(answer, again) or texts.words(answer) == texts.words(again) != ())


def _same_number(first: str, second: str) -> bool:
    try:
        return float(first) == float(second)
    except ValueError:
        return False
