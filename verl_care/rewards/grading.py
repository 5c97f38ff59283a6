"""Rule-based rewards of one response: accuracy by problem type, and format.

Source: `accuracy_reward` and `format_reward` in `src/r1-v/src/open_r1/grpo.py` of the release, which Video-R1 shares;
the sixth problem type, `math`, is ours.

Deviations from the release:

1. A ground truth without tags (`A` beside `<answer>A</answer>`) is accepted; the release reads it as empty.
2. An unknown problem type raises; the release gives 0 and the run learns nothing.
3. A regression truth that is not finite (`inf`, `nan`) gives 0; the release's clipping of NaN makes it 1.
4. A free-form answer that is out of all proportion to its truth gives 0: see `_free_form`.
5. Nothing a model writes raises or takes quadratic time; the release catches every exception and gives 0. `math`
   takes a few seconds at most (`math_answer.SECONDS`), outside this process.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

from verl_care.algorithm.spans import CLOSE, answer_block

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer

_THINK_OPEN = "<think>"
_THINK_TO_ANSWER = re.compile(r"</think>\s*<answer>")
_ROUGE_WORD = re.compile(r"[a-z0-9]+")

# No response of the published runs (768 tokens, 1024 in evaluation) has as many words.
_FREE_FORM_WORDS = 2048


def grade(problem_type: str, response: str, ground_truth: str) -> float:
    """Accuracy `a` in [0, 1] of the first closed answer block of `response`.

    Args:
        problem_type: a key of `GRADERS`.
        response: the whole response. Without a closed answer block its answer is the empty text.
        ground_truth: the answer as bare text, or inside `<answer>` tags as the data sets write it.

    Returns:
        The accuracy. 0 where either side should be a number and is not: a ground truth that cannot be read is an
        error of the data, and checking the data is where it is reported.

    Raises:
        ValueError: unknown `problem_type`. Nothing in `response` raises.
    """
    grader = GRADERS.get(problem_type)
    if grader is None:
        known = ", ".join(repr(name) for name in GRADERS)
        raise ValueError(f"problem_type is {problem_type!r}, which no rule grades: the data may use {known}")
    truth = extract_answer(ground_truth)
    return grader(extract_answer(response) or "", ground_truth.strip() if truth is None else truth)


def has_format(response: str) -> bool:
    """Does the whole response read `<think>.*?</think>\\s*<answer>.*?</answer>` (a dot matches a line break too)?

    A lazy `.*?` between fixed ends matches anything, so the regex holds exactly when the ends are there and the middle
    is somewhere between them. Asked that way the time is linear: the regex itself tries every pair of tags.
    """
    middle_end = len(response) - len(CLOSE)
    return (
        response.startswith(_THINK_OPEN)
        and response.endswith(CLOSE)
        and _THINK_TO_ANSWER.search(response, len(_THINK_OPEN), middle_end) is not None
    )


def extract_answer(response: str) -> str | None:
    """Text of the first closed answer block, stripped; None without one. `algorithm.spans` finds the same block."""
    block = answer_block(response)
    return None if block is None else response[block[0] : block[1]].strip()


def _multiple_choice(answer: str, truth: str) -> float:
    """1 if the texts are equal. Case counts, and so does a full stop behind the letter."""
    return float(answer == truth)


def _numerical(answer: str, truth: str) -> float:
    """1 if both are equal after rounding to two decimals, and both or neither are written with a `.` or `,`.

    A comma is taken as a thousands separator, yet counts as a decimal sign: `1,250` equals `1250.0` but not `1250`.
    """
    if _has_decimal_sign(answer) != _has_decimal_sign(truth):
        return 0.0
    answer_number, truth_number = number(answer), number(truth)
    if answer_number is None or truth_number is None:
        return 0.0
    return float(round(answer_number, 2) == round(truth_number, 2))


def _regression(answer: str, truth: str) -> float:
    """1 - relative error, clipped to [0, 1]: `1 - (|answer - truth| + 1e-9) / (|truth| + 1e-9)`.

    As in the release, the right answer to a truth of 0 scores 0, because the two 1e-9 are all that is left.
    """
    answer_number, truth_number = number(answer), number(truth)
    if answer_number is None or truth_number is None:
        return 0.0
    error = (abs(answer_number - truth_number) + 1e-9) / (abs(truth_number) + 1e-9)
    return 1.0 - min(1.0, error)


def _ocr(answer: str, truth: str) -> float:
    """1 - word error rate, clipped to [0, 1]; the rate is the edit distance in words over the words of the truth.

    An answer of n words is at least n - m edits away from a truth of m words. So from n = 2m on the rate is at least 1
    and the reward exactly 0, which bounds the work by the truth's length, not the answer's. Nothing is right only for
    an empty truth.
    """
    truth_words = truth.split()
    enough = 2 * len(truth_words)
    answer_words = answer.split(maxsplit=enough)
    if not truth_words or not answer_words:
        return float(not truth_words and not answer_words)
    if len(answer_words) >= enough:
        return 0.0

    import jiwer

    # jiwer splits at single blanks. Joined by one, the words stay those of `str.split`.
    rate = jiwer.wer(" ".join(truth_words), " ".join(answer_words))
    return 1.0 - min(1.0, rate)


def _free_form(answer: str, truth: str) -> float:
    """Mean F-measure of ROUGE-1, ROUGE-2 and ROUGE-L, with Porter stems.

    Every F-measure is at most `2m / (m + n)` for m words of truth and n of answer. An answer with n >= 19m scores at
    most 0.1, too little to be selected for a bonus; if it also has more than 2048 words (deviation 4) it gets 0 at
    once, since ROUGE-L costs m * n. What remains is at most 19 m^2 steps: half a second for a truth of 300 words.
    """
    answer_words = sum(1 for _ in _ROUGE_WORD.finditer(answer.lower()))
    truth_words = sum(1 for _ in _ROUGE_WORD.finditer(truth.lower()))
    if answer_words > max(_FREE_FORM_WORDS, 19 * truth_words):
        return 0.0
    scores = _rouge_scorer().score(truth, answer)
    return sum(score.fmeasure for score in scores.values()) / len(scores)


def _math(answer: str, truth: str) -> float:
    """1 if math-verify finds both equal, as numbers, sets, equations or formulas (`math_answer.same_value`)."""
    from verl_care.rewards.math_answer import same_value

    return float(same_value(answer, truth))


@lru_cache(maxsize=1)
def _rouge_scorer() -> RougeScorer:
    """Built once, when first needed: importing it costs most of a second."""
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)


def _has_decimal_sign(text: str) -> bool:
    return "." in text or "," in text


def number(text: str) -> float | None:
    """What `float` reads once the commas are gone; None where that is nothing, infinite or not a number."""
    try:
        value = float(text.replace(",", ""))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


# One rule a problem type, (answer, truth) -> accuracy. A new type is a function and a line here.
GRADERS: dict[str, Callable[[str, str], float]] = {
    "multiple choice": _multiple_choice,
    "numerical": _numerical,
    "OCR": _ocr,
    "free-form": _free_form,
    "regression": _regression,
    "math": _math,
}
