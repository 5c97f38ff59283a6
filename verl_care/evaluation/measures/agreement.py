"""`agreement RUN --model PATH`: is the same answer given again from the reasoning alone? Asked of a model in vLLM."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from verl_care import platforms
from verl_care.consistency_measures import texts
from verl_care.consistency_measures.agreement import (
    ANSWER_TOKENS,
    OPEN_ANSWER_TOKENS,
    agreement,
    answer_again,
    asked_text,
    up_to_answer,
)
from verl_care.evaluation.measures.folder import NO_RESPONSE, to_measure
from verl_care.evaluation.rows import Measured, Row, append_measures, slug

DESCRIPTION = "whether a model gives the same answer again from question and reasoning, without the media (vLLM)"
STYLES = ("released_evaluation", "released", "plain")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_folder", metavar="RUN", type=Path, help="folder of an evaluation")
    parser.add_argument("--model", required=True, help="folder or hub name of the model that is asked")
    parser.add_argument("--prompt", choices=STYLES, default=STYLES[0], help="the wording around the question")
    parser.add_argument("--batch", type=int, default=256, help="answers that are asked, and written down, at a time")
    parser.add_argument("--max-model-len", type=int, default=8192, help="tokens; what is longer is unknown")
    parser.add_argument("--memory", type=float, help="share of the device's memory for vLLM (its own default: 0.9)")


def run(arguments: argparse.Namespace) -> int:
    name = f"agreement-{slug(arguments.model)}"
    rows = to_measure(arguments.run_folder, name, prompt=arguments.prompt)
    counts = {"measured": 0, "unknown": 0}

    def write(measured: Sequence[Measured]) -> None:
        append_measures(arguments.run_folder, name, measured, model=arguments.model, prompt=arguments.prompt)
        counts["measured"] += len(measured)
        counts["unknown"] += sum(found.value is None for found in measured)

    asked = [row for row in rows if _unanswered(row) is None]
    write([Measured(row.key, None, _unanswered(row)) for row in rows if _unanswered(row) is not None])
    if asked:
        model = Model(arguments.model, arguments.max_model_len, arguments.memory)
        with tqdm(total=len(asked), desc="asked again", unit="answer") as bar:
            for batch in _batches(asked, arguments.batch):
                write(model.measure(batch, arguments.prompt))
                bar.update(len(batch))
    print(f"{counts['measured']} answers measured, {counts['unknown']} of them unknown")
    return 0


class Model:
    """A model in vLLM, greedy, without media; on a machine without an accelerator too."""

    def __init__(self, path: str, max_model_len: int, memory: float | None):
        if platforms.wants_cpu():
            from verl_care.platforms.cpu import vllm as for_cpus  # vLLM for CPUs calls itself by another name

            for variable, value in (for_cpus.ENVIRONMENT | IN_THIS_PROCESS).items():
                os.environ.setdefault(variable, value)
        from vllm import LLM

        options: dict[str, Any] = {} if memory is None else {"gpu_memory_utilization": memory}
        if platforms.wants_cpu():
            options = {"dtype": "float32", "gpu_memory_utilization": memory or 0.2}
        self._llm = LLM(
            path,
            max_model_len=max_model_len,
            enforce_eager=True,
            limit_mm_per_prompt={"image": 0, "video": 0},
            **options,
        )
        self._tokenizer: Any = self._llm.get_tokenizer()
        self._room = max_model_len

    def measure(self, rows: Sequence[Row], style: str) -> list[Measured]:
        from vllm import SamplingParams
        from vllm.inputs import TokensPrompt

        prompts = [self._prompt(row, style) for row in rows]
        limits = [ANSWER_TOKENS if row.options else OPEN_ANSWER_TOKENS for row in rows]
        fits = [len(ids) + limit <= self._room for ids, limit in zip(prompts, limits, strict=True)]
        outputs = iter(
            self._llm.generate(
                [TokensPrompt(prompt_token_ids=ids) for ids, fit in zip(prompts, fits, strict=True) if fit],
                [SamplingParams(temperature=0, max_tokens=n) for n, fit in zip(limits, fits, strict=True) if fit],
                use_tqdm=False,
            )
        )
        return [
            compare(row, next(outputs).outputs[0].text) if fit else Measured(row.key, None, "prompt too long")
            for row, fit in zip(rows, fits, strict=True)
        ]

    def _prompt(self, row: Row, style: str) -> list[int]:
        text = asked_text(row.question, row.options, row.problem_type, style)
        chat = [{"role": "user", "content": text}]
        opened = self._tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        reasoning = up_to_answer(row.response or "") or ""
        # A response may spell the marks of a chat; they stay letters.
        spelled = self._tokenizer(reasoning, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return [*self._tokenizer(opened, add_special_tokens=False)["input_ids"], *spelled]


IN_THIS_PROCESS = {  # which has been mended for CPUs
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
}


def compare(row: Row, continuation: str) -> Measured:
    """What a model's continuation says of an answered row."""
    parts = texts.split(row.response or "")
    value = agreement(parts.answer, answer_again(continuation), row.options) if parts else None
    return Measured(row.key, value, None if value is not None else "no answer that can be compared")


def _unanswered(row: Row) -> str | None:
    """Why nothing can be asked of a row; None if it can."""
    if row.response is None:
        return NO_RESPONSE
    return None if texts.split(row.response) else "no answer"


def _batches(rows: Sequence[Row], size: int) -> Iterator[Sequence[Row]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
