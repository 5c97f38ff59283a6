"""What a response of the miniature is worth, by the rule that knows the truth. Pure.

A response of the grammar (`recipes.quickstart.consistency_rule`) concludes in a word and answers with a letter. It is
consistent when the word is the letter's option, and right for the right reason when it is accurate as well. One
outside the grammar is neither accurate nor consistent, and counts in every mean; that its letter is right, as the
accuracy that training rewards finds it, is a measure of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_prep.miniature_world import ACTIONS, LETTERS
from recipes.quickstart.consistency_rule import parse
from verl_care.consistency_measures.calibration import auc
from verl_care.rewards.grading import grade

CAP = 0.95


@dataclass(frozen=True)
class Response:
    in_grammar: bool
    right_letter: bool
    accuracy: float
    consistent: bool
    conclusion_right: bool
    conclusion_listed: bool
    names_step: bool
    """The conclusion is a step of the world, an option or not."""
    length: int

    @classmethod
    def of(cls, text: str, options: Sequence[str], answer: int, length: int) -> Response:
        found, right_letter = parse(text), grade("multiple choice", text, LETTERS[answer]) > 0
        if found is None:
            return cls(False, right_letter, 0.0, False, False, False, False, length)
        conclusion, letter = found
        named = options[LETTERS.index(letter)] if letter in LETTERS[: len(options)] else None
        return cls(
            in_grammar=True,
            right_letter=right_letter,
            accuracy=float(letter == LETTERS[answer]),
            consistent=conclusion == named,
            conclusion_right=conclusion == options[answer],
            conclusion_listed=conclusion in options,
            names_step=conclusion in ACTIONS,
            length=length,
        )


def measure(responses: Sequence[Response], likelihoods: Sequence[float] | None = None) -> dict[str, float]:
    """Means over responses.

    accuracy, consistency, format     of all
    right_letter                      of all, by the reward of training, in the grammar or not
    right_reason                      accurate and consistent
    right_contradicted                accurate, but the conclusion is another option or none
    conclusion_right, _listed         of all
    direct                            accuracy of the responses whose conclusion is wrong: the letter without the
                                      reasoning; absent where there are none
    length                            tokens
    at_cap, auc                       with `likelihoods` (NaN: not scored), of accurate responses: the share at the
                                      cap of 0.95; how well the likelihood tells consistent from inconsistent ones
                                      (area under the ROC curve; absent where one kind is missing)
    """
    if not responses:
        raise ValueError("no responses to measure")
    accurate = np.array([r.accuracy > 0 for r in responses])
    consistent = np.array([r.consistent for r in responses])
    concluded = np.array([r.conclusion_right for r in responses])
    found = {
        "responses": float(len(responses)),
        "accuracy": accurate.mean(),
        "consistency": consistent.mean(),
        "format": np.mean([r.in_grammar for r in responses]),
        "right_letter": np.mean([r.right_letter for r in responses]),
        "right_reason": (accurate & consistent).mean(),
        "right_contradicted": (accurate & ~consistent).mean(),
        "conclusion_right": concluded.mean(),
        "conclusion_listed": np.mean([r.conclusion_listed for r in responses]),
        "length": np.mean([r.length for r in responses]),
    }
    if not concluded.all():
        found["direct"] = accurate[~concluded].mean()
    if likelihoods is not None:
        likelihood = np.array(likelihoods, dtype=float)
        scored = accurate & ~np.isnan(likelihood)
        if scored.any():
            found["at_cap"] = (likelihood[scored] >= CAP).mean()
        told = auc(likelihood[scored], consistent[scored].astype(float))
        found |= {} if np.isnan(told) else {"auc": told}
    return {name: float(value) for name, value in found.items()}
