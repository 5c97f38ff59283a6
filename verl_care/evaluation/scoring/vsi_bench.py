"""VSI-Bench's own score: the mean over its question types, each with its own metric.

Source: vision-x-nyu/thinking-in-space, `lmms_eval/tasks/vsibench/utils.py`. Six types are multiple choice and four are
numbers; the three difficulties of relative direction are averaged to one type, and the score is the mean of the eight.

Deviations:

1. Only the text that the released evaluation of GRPO-CARE takes for the answer is read; VSI-Bench asks for a bare one.
2. A type without questions is left out, also of the three difficulties, which VSI-Bench divides by three anyway: a part
   of the benchmark has a mean, too.
3. `relative_accuracy` says what is done with a truth of 0.
"""

from __future__ import annotations

from verl_care.evaluation.rows import Row
from verl_care.evaluation.scoring.answers import bare_truth, exact_answer
from verl_care.evaluation.scoring.relative_accuracy import mean_relative_accuracy
from verl_care.rewards.grading import number

BENCHMARK = "vsibench"
NUMBER_TYPES = ("object_abs_distance", "object_counting", "object_size_estimation", "room_size_estimation")
DIRECTION = "object_rel_direction"
DIRECTIONS = tuple(f"{DIRECTION}_{difficulty}" for difficulty in ("easy", "medium", "hard"))
CHOICE_TYPES = (*DIRECTIONS, "object_rel_distance", "route_planning", "obj_appearance_order")
TYPES = (*NUMBER_TYPES, *CHOICE_TYPES)

# Every question is made from its type's wording. In this order: a later mark may stand in an earlier type.
_WORDING = (
    ("You are a robot beginning at", "route_planning"),
    ("first-time appearance order", "obj_appearance_order"),
    ("longest dimension", "object_size_estimation"),
    ("size of this room", "room_size_estimation"),
    ("which of these objects", "object_rel_distance"),
    ("Measuring from the closest point", "object_abs_distance"),
    ("front-left", "object_rel_direction_hard"),
    ("left, right, or back", "object_rel_direction_medium"),
    ("to the left or the right of", "object_rel_direction_easy"),
    ("are in this room", "object_counting"),
)


def is_vsi_bench(row: Row) -> bool:
    return row.dataset.partition("/")[0] == BENCHMARK


def type_of(row: Row) -> str | None:
    """The question's type: the data's word for it, else what its wording says; None where neither does."""
    named = row.tags.get("task_type", "").strip().lower()
    if named in TYPES:
        return named
    return next((kind for mark, kind in _WORDING if mark in row.question), None)


def official_score(row: Row) -> float | None:
    """In [0, 1], 0 for a row without a response; None for other benchmarks and for a type that cannot be told.

    The first word of the answer counts, full stops behind it do not, nor does its case.
    """
    kind = type_of(row) if is_vsi_bench(row) else None
    if kind is None:
        return None
    answer = exact_answer(row.response or "", whole=True) or ""
    word, truth = answer.partition(" ")[0].rstrip(".").strip(), bare_truth(row.ground_truth)
    if kind in CHOICE_TYPES:
        return float(word.lower() == truth.lower())
    value, wanted = number(word), number(truth)
    if value is None or wanted is None:
        return 0.0
    return mean_relative_accuracy(value, wanted, "vsibench")
