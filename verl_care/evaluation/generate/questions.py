"""Questions of a data set: read from its rows, answered as `Row`s. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from verl_care.data.marks import MARKS
from verl_care.data.prompts import PromptStyle, bare_question, lettered, wording_of
from verl_care.evaluation.rows import Row
from verl_care.records import groups

TAGS = (*groups.TAGS, "index")
_MARK = re.compile("|".join(MARKS.values()))


class QuestionKey(NamedTuple):
    """A question, within one folder."""

    dataset: str
    id: str


@dataclass(frozen=True)
class Question:
    """What a `Row` says of its question."""

    dataset: str
    id: str
    problem_type: str
    ground_truth: str
    text: str  # without options and the prompt's wording
    options: tuple[str, ...]  # "A. text"
    tags: dict[str, str] = field(default_factory=dict)
    wording: PromptStyle = "plain"

    @property
    def key(self) -> QuestionKey:
        return QuestionKey(self.dataset, self.id)

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Question:
        """The question of a parquet's row, or of what verl's dataset makes of it. Columns of later versions may lack.

        Raises:
            ValueError: a row without `extra_info.id`: its answers could not be told apart.
        """
        info = row.get("extra_info") or {}
        if info.get("id") in (None, ""):
            raise ValueError(
                f"a row of {row['data_source']} has no extra_info.id, by which its answers are found again: convert the"
                " data with data_prep"
            )
        prompt = _user_text(row["raw_prompt"] if "raw_prompt" in row else row["prompt"])
        options = info.get("options")
        return cls(
            dataset=str(row["data_source"]),
            id=str(info["id"]),
            problem_type=info.get("problem_type") or "multiple choice",
            ground_truth=str(row["reward_model"]["ground_truth"]),
            text=info.get("question") or bare_question(prompt, has_options=bool(options)),
            options=lettered(options if options is not None else ()),
            tags={name: str(info[name]) for name in TAGS if info.get(name) not in (None, "")},
            wording=wording_of(prompt),
        )

    def answered(
        self, sample: int, response: str, finish: Literal["stop", "length"], tokens: int, settings: str
    ) -> Row:
        return self._row(sample, settings, response=response, finish=finish, response_tokens=tokens)

    def failed(self, sample: int, reason: str, settings: str) -> Row:
        return self._row(sample, settings, response=None, finish=None, response_tokens=None, failure=reason)

    def changed_since(self, row: Row) -> bool:
        """True if `row` answers another question than this one."""
        # Marks aside: once, the row of a question that could not be asked kept those behind its first words.
        there = (_unmarked(row.question), row.options, row.ground_truth)
        return there != (_unmarked(self.text), self.options, self.ground_truth)

    def _row(self, sample: int, settings: str, **response: Any) -> Row:
        return Row(
            dataset=self.dataset,
            id=self.id,
            sample=sample,
            problem_type=self.problem_type,
            ground_truth=self.ground_truth,
            question=self.text,
            options=self.options,
            tags=self.tags,
            settings=settings,
            **response,
        )


def _user_text(messages: Sequence[Mapping[str, Any]]) -> str:
    """The text of the last message, media left out; content is a text with marks, or verl's list of parts."""
    content = messages[-1]["content"]
    if isinstance(content, str):
        return _unmarked(content)
    return "".join(part["text"] for part in content if part["type"] == "text")


def _unmarked(text: str) -> str:
    """Without its marks, wherever they stand: what verl leaves of it, which cuts a text at each (rl_dataset.py)."""
    return _MARK.sub("", text)  # once: what moves together here is no mark to verl either
