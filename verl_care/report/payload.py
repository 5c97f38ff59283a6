"""What the page of a report is made from: plain JSON, and nothing else that the page would have to fetch.

`collect` makes it of run folders, `page` puts it into one HTML file. Every string that a model or a data file wrote is
in here as it was read, made valid Unicode and no more: it is text, and the page shows it as text.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, TypedDict

SCHEMA = 1

Scalar: TypeAlias = str | int | float | bool | None


class Metric(TypedDict):
    """One curve: `values[i]` was logged at `steps[i]`; null where a step had no such number."""

    steps: list[int]
    values: list[float | None]


class Validation(TypedDict):
    """One validation of one data set: the means of all its responses."""

    step: int  # 0: before training, and for evaluations without a step
    dataset: str  # `data_source` of the data: seed_bench_r1/L1
    questions: int
    values: dict[str, float]  # accuracy, format, consistency_<measure>, ...


class Run(TypedDict):
    """One training run, or one folder of an evaluation."""

    name: str
    folder: str
    config: dict[str, Scalar]  # dotted key of the resolved Hydra configuration -> value
    metrics: dict[str, Metric]  # name as verl logs it
    validation: list[Validation]


class Published(TypedDict):
    """A number that somebody published, drawn as a line of reference."""

    metric: str  # accuracy
    dataset: str
    method: str  # CARE
    value: float


class Frame(TypedDict):
    """One frame of a clip that the model saw."""

    image: int  # index into `Payload.images`
    time: float  # seconds from the beginning of the clip's file


class Clip(TypedDict):
    """A clip, or the stretch of one. `frames` is empty where none could be shown, and `reason` says why."""

    path: str
    frames: list[Frame]
    reason: str | None


class Picture(TypedDict):
    """An image of the prompt; `image` is null where it could not be shown, and `reason` says why."""

    path: str
    image: int | None  # index into `Payload.images`
    reason: str | None


class Question(TypedDict):
    """One row of the data. Groups of all runs and steps point here."""

    key: str  # data_source/id
    data_source: str
    id: str
    problem_type: str
    question: str | None
    prompt: str
    options: list[str]  # "A. to the table"
    truth: str
    tags: dict[str, str]
    clips: list[Clip]
    images: list[Picture]


class Answer(TypedDict):
    """Where the answer stands in a response: characters [start, stop) of its `text`, Unicode code points."""

    start: int
    stop: int


class AnswerToken(TypedDict):
    """One token of the answer, and its natural log-probability under the reference; null where it was not scored."""

    text: str
    log_prob: float | None


class Response(TypedDict):
    """One response, and what it was given. Null where a number does not exist, never where it is 0."""

    text: str
    cut: int  # characters of the response that `text` leaves out at its end, to bound the page
    length: int | None  # tokens
    finish: Literal["stop", "length"] | None
    accuracy: float | None
    format: float | None
    likelihood: float | None  # of the answer under the reference, in (0, 1]
    selected: bool | None  # takes part in the comparison of likelihoods
    bonus: float | None
    reward: float | None  # accuracy + format + bonus, as it was trained on
    advantage: float | None
    answer: Answer | None
    answer_tokens: list[AnswerToken]
    measures: dict[str, float | None]  # consistency measures: 1 consistent, 0 not; null: unknown


class Group(TypedDict):
    """The responses to one question, of one run at one step."""

    run: int  # index into `Payload.runs`
    step: int
    question: int  # index into `Payload.questions`
    threshold: float | None  # mean capped likelihood of the selected
    split: Literal["train", "validation"]
    responses: list[Response]


class Payload(TypedDict):
    """The whole page."""

    schema: int
    title: str
    made: str  # ISO 8601, UTC
    live: bool  # a server behind the page follows the runs
    runs: list[Run]
    published: list[Published]
    questions: list[Question]
    groups: list[Group]
    images: list[str]  # data:image/webp;base64,...; each picture once, at most 224 pixels wide
    notes: list[str]  # what had to be left out, and why: for the reader of the page
