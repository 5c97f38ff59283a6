"""Which responses a judge is asked about, many at a time, and where its verdicts go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any

from verl_care.evaluation import rows
from verl_care.evaluation.judge import verdict
from verl_care.evaluation.judge.cache import Cache, digest
from verl_care.evaluation.judge.prompts import Prompt, why_not_asked
from verl_care.evaluation.judge.server import TRANSIENT, NoReply, Server, ServerError
from verl_care.evaluation.judge.summary import Usage
from verl_care.evaluation.rows import Key, Measured, Row, slug
from verl_care.records import jsonl

_TRIAL = Row(
    dataset="", id="", sample=0, problem_type="multiple choice", ground_truth="", question="What is served?",
    options=("A. soup", "B. salad"), response="<think>A bowl is filled with soup.</think><answer>A</answer>",
    finish="stop", response_tokens=None,
)  # fmt: skip


@dataclass(frozen=True)
class Judge:
    """Everything that a verdict depends on, but for the response.

    Attributes:
        temperature: None leaves sampling to the server; some models allow nothing else.
        structured: whether the server is told the schema of the reply.
    """

    model: str
    prompt: Prompt
    temperature: float | None = 0.0
    max_tokens: int | None = None
    structured: bool = True

    @property
    def measure(self) -> str:
        """Name of the measure: `judge-<model slug>-<prompt and version>`."""
        return f"judge-{slug(self.model)}-{self.prompt.name}"

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "prompt": self.prompt.name,
            "prompt_sha256": self.prompt.digest,
            "temperature": self.temperature,
            "max_tokens": self.max_tokens or self.prompt.max_tokens,
            "structured": self.structured,
        }

    def request(self, row: Row) -> dict[str, Any]:
        """Parameters of the chat completion: of the row only question, options and response go into it."""
        request: dict[str, Any] = {
            "model": self.model,
            "messages": self.prompt.messages(row),
            "max_completion_tokens": self.settings["max_tokens"],
        }
        if self.temperature is not None:
            request["temperature"] = self.temperature
        if self.structured:
            schema = {"name": "verdict", "strict": True, "schema": self.prompt.schema()}
            request["response_format"] = {"type": "json_schema", "json_schema": schema}
        return request


def sample(all_rows: Iterable[Row], size: int | None, seed: int) -> list[Row]:
    """`size` rows of each data set (all of a smaller one, and of each if None), in the order of their keys.

    Simple random within a data set: the rows whose key and seed have the smallest hashes. So it depends neither on the
    order of the rows nor on what they answer: two runs on the same questions are judged on the same sample, and a
    larger sample contains the smaller one. Failed rows are drawn like the others.
    """
    chosen: list[Row] = []
    by_dataset: dict[str, list[Row]] = {}
    for row in sorted(all_rows, key=lambda row: row.key):
        by_dataset.setdefault(row.dataset, []).append(row)
    for members in by_dataset.values():
        drawn = sorted(members, key=lambda row: sha256(repr((seed, tuple(row.key))).encode()).digest())[:size]
        chosen.extend(sorted(drawn, key=lambda row: row.key))
    return chosen


class Verdicts:
    """RUN/measures/judge-....jsonl: what is there, and what comes to it."""

    def __init__(self, run: Path, judge: Judge):
        """Read what an earlier call left.

        Raises:
            ValueError: it was judged with other settings, which must not mix.
        """
        self.path = run / rows.MEASURES / f"{judge.measure}.jsonl"
        self._run, self._judge = run, judge
        self._known: dict[Key, tuple[str | None, str | None]] = {}  # digest of the request, why it is unknown
        jsonl.mend(self.path)
        for line in jsonl.read(self.path) if self.path.exists() else ():
            found = line.get("judge")
            if found != judge.settings:
                differing = sorted(key for key, value in judge.settings.items() if (found or {}).get(key) != value)
                raise ValueError(
                    f"{self.path} was judged with another {', '.join(differing) or 'setting'}, and verdicts of "
                    "different settings do not mix: repeat those options, or move that file away"
                )
            self._known[Key(line["dataset"], line["id"], line["sample"])] = (line["request"], line["why"])

    def has(self, key: Key, request: str | None, ask_again: bool) -> bool:
        """Is there a verdict on this very response? With `ask_again`, a server's failure is none."""
        known = self._known.get(key)
        return known is not None and known[0] == request and not (ask_again and known[1] in TRANSIENT)

    def add(self, measured: Measured, request: str | None, note: str | None) -> None:
        more = {"note": note} if note else {}
        rows.append_measures(
            self._run, self._judge.measure, [measured], request=request, judge=self._judge.settings, **more
        )


async def judge_rows(
    chosen: list[Row],
    judge: Judge,
    verdicts: Verdicts,
    cache: Cache,
    server: Server,
    *,
    concurrency: int,
    ask_again: bool = False,
    progress: Callable[[int], object] = lambda rows: None,
) -> Usage:
    """Add a verdict for every row that has none yet; each is on disk before the next is asked for.

    Args:
        progress: is called with the number of rows that are done.

    Raises:
        ServerError: the server answers nobody, or refuses a request that has nothing to object to.
    """
    usage = Usage()

    def conclude(row: Row, request: str, reply: verdict.Reply) -> None:
        value, why, note = verdict.read(reply, judge.prompt, fenced=not judge.structured)
        verdicts.add(Measured(row.key, value, why), request, note)
        progress(1)

    def to_ask() -> Iterator[tuple[Row, str, dict[str, Any]]]:
        for row in chosen:
            reason = why_not_asked(row)
            request = None if reason else judge.request(row)
            key = None if request is None else digest(request, judge.prompt.name)
            if verdicts.has(row.key, key, ask_again):
                progress(1)
            elif request is None or key is None:
                verdicts.add(Measured(row.key, None, reason), None, None)
                progress(1)
            elif (reply := cache.get(key)) is not None:
                usage.cached += 1
                conclude(row, key, reply)
            else:
                yield row, key, request

    async def worker(questions: Iterator[tuple[Row, str, dict[str, Any]]]) -> None:
        for row, key, request in questions:
            try:
                reply = await server.complete(request)
            except NoReply as failure:
                usage.failures.setdefault(failure.why, str(failure))
                verdicts.add(Measured(row.key, None, failure.why), key, None)
                progress(1)
                continue
            usage.add(reply)
            cache.put(key, reply)
            conclude(row, key, reply)

    questions = to_ask()
    first = next(questions, None)
    if first is None:
        return usage
    usage.add(await _try_out(server, judge))
    questions = chain([first], questions)
    await _together([worker(questions) for _ in range(concurrency)])
    return usage


async def _together(workers: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Until all have ended, or one has failed: the others do not go on then."""
    tasks = [asyncio.ensure_future(worker) for worker in workers]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _try_out(server: Server, judge: Judge) -> verdict.Reply:
    """Ask about an example of ours, so that what a server objects to is not the response of a row."""
    try:
        return await server.complete(judge.request(_TRIAL))
    except NoReply as failure:
        hint = "--plain-json does without a schema (response_format) and " if judge.structured else ""
        raise ServerError(
            f"{server.place} did not answer a first, harmless request ({failure}). If it objects to a parameter: "
            f"{hint}--temperature server sends no temperature."
        ) from failure
