"""Each response is a row before anything else happens to it; what fails costs itself alone."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
import ray.exceptions
from verl.experimental.agent_loop.agent_loop import AgentLoopMetrics, AgentLoopOutput

from verl_care.agent_loop import CareAgentLoop
from verl_care.data.decoders import MediaError
from verl_care.evaluation.generate import agent_loop, run_folder
from verl_care.evaluation.generate.agent_loop import EvaluationAgentLoop, is_of_the_server, reason_of, seed_of
from verl_care.evaluation.generate.questions import Question
from verl_care.evaluation.rows import read_rows

END, PAD = 0, 1


class FakeTokenizer:
    eos_token_id, pad_token_id = END, PAD

    def decode(self, ids: list[int], skip_special_tokens: bool = False) -> str:
        return "".join(chr(96 + i) for i in ids if i > 1)


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """Runs the loop on one question; what verl's own would answer, or raise, is given."""
    run_folder.claim(tmp_path, {}, "m")
    run_folder.answers_to.cache_clear()
    seen: list[dict[str, Any]] = []

    def ask(answer: Any, session: int = 0, samples: tuple[int, ...] = (0,)) -> Any:
        async def run(self: Any, sampling_params: dict, priority: int = 0, **kwargs: Any) -> Any:
            seen.append(sampling_params)
            if isinstance(answer, Exception):
                raise answer
            return AgentLoopOutput(
                prompt_ids=[2] * 10,
                response_ids=answer,
                response_mask=[1] * len(answer),
                multi_modal_data={"videos": ["a clip"]},
                mm_processor_kwargs={"video_metadata": ["of the clip"]},
                metrics=AgentLoopMetrics(),
            )

        monkeypatch.setattr(CareAgentLoop, "run", run)
        loop = object.__new__(EvaluationAgentLoop)
        loop.tokenizer, loop.processor = FakeTokenizer(), None
        loop.config = SimpleNamespace(evaluation=SimpleNamespace(run=str(tmp_path)))
        loop.rollout_config = SimpleNamespace(response_length=4, prompt_length=20, max_model_len=None, seed=42)
        kwargs = {
            "session_id": session,
            "uid": "u",
            "data_source": "d",
            "raw_prompt": [{"role": "user", "content": "Q?"}],
            "reward_model": {"ground_truth": "A"},
            "extra_info": {"id": "7", "question": "Q?", "missing_samples": list(samples)},
        }
        return asyncio.run(loop.run({"temperature": 0.1}, **kwargs))

    ask.seen = seen
    yield ask
    run_folder.answers_to.cache_clear()


@pytest.mark.parametrize(
    ("ids", "text", "finish"),
    [
        ([3, 4, END], "cd", "stop"),
        ([3, 4, 5, END], "cde", "stop"),  # the end came with the last token that fits
        ([3, 4, 5, 6], "cdef", "length"),
        ([3, 4], "cd", "stop"),  # shorter than the limit: something stopped it
        ([3, 4, 5, PAD], "cde", "stop"),
    ],
)
def test_an_answer_is_written_and_handed_on_without_its_clip(ask, tmp_path, ids, text, finish):
    output = ask(ids)
    assert (output.response_ids, output.multi_modal_data, output.mm_processor_kwargs) == (ids, {}, None)
    (row,) = read_rows(tmp_path)
    assert (row.response, row.finish, row.response_tokens, row.failure) == (text, finish, len(ids), None)


def test_a_session_answers_for_the_sample_that_is_missing(ask, tmp_path):
    ask([3, END], session=1, samples=(2, 5))
    assert [row.key for row in read_rows(tmp_path)] == [("d", "7", 5)]


def test_each_sample_has_a_seed_of_its_own_and_keeps_it(ask):
    ask([3, END], session=0, samples=(4, 5))
    ask([3, END], session=1, samples=(4, 5))
    ask([3, END], session=0, samples=(5,))  # after an interruption
    first, second, again = (params["seed"] for params in ask.seen)
    assert first != second == again
    assert all(params["temperature"] == 0.1 for params in ask.seen)


def test_seeds_of_other_questions_and_of_other_runs():
    questions = [Question(d, i, "t", "A", "Q", ()) for d, i in (("d", "1"), ("d", "2"), ("e", "1"))]
    seeds = {seed_of(s, q, n) for s in (1, 2) for q in questions for n in range(50)}
    assert len(seeds) == 2 * 3 * 50
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (MediaError("clip x.mp4: no\n frame"), "media: clip x.mp4: no frame"),
        (ValueError("Prompt length (300)"), "generation: ValueError: Prompt length (300)"),
        (OSError("a path"), "generation: OSError: a path"),
    ],
)
def test_a_failure_is_a_row_and_an_empty_answer(ask, tmp_path, error, failure):
    output = ask(error)
    assert (output.response_ids, output.response_mask) == ([END], [1])
    (row,) = read_rows(tmp_path)
    assert (row.failure, row.response, row.finish) == (failure, None, None)


def test_no_token_at_all_is_a_failure(ask, tmp_path):
    ask([])
    assert read_rows(tmp_path)[0].failure == "generation: RuntimeError: the server answered with no token"


class EngineDeadError(Exception):
    pass


def of_a_task(cause: Exception) -> Exception:
    """As Ray raises what was raised on the server."""
    return ray.exceptions.RayTaskError("generate", "trace", cause).as_instanceof_cause()


def test_when_the_server_is_gone_nobody_is_blamed(ask, tmp_path):
    for error in (ray.exceptions.ActorDiedError(), of_a_task(EngineDeadError("dead"))):
        assert is_of_the_server(error)
        with pytest.raises(type(error)):
            ask(error)
    assert not (tmp_path / "responses.jsonl").exists()


def test_what_the_server_refuses_is_the_questions(ask, tmp_path):
    error = of_a_task(ValueError("Prompt length (300) leaves no room"))
    assert not is_of_the_server(error)
    ask(error)
    assert read_rows(tmp_path)[0].failure == "generation: ValueError: Prompt length (300) leaves no room"


def test_a_long_reason_is_cut():
    reason = reason_of(ValueError("x" * 1000))
    assert len(reason) == len("generation: ") + agent_loop.REASON + len("...")
