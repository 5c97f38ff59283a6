"""python -m verl_care.evaluation judge: does the reasoning support the answer, in the eyes of another model?"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from verl_care.evaluation import rows
from verl_care.evaluation.judge import prompts

if TYPE_CHECKING:
    from verl_care.evaluation.judge.judging import Judge
    from verl_care.evaluation.judge.summary import Usage

DESCRIPTION = "ask a language model whether each response's reasoning supports its answer"
_KEY = "OPENAI_API_KEY"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_folder", metavar="RUN", type=Path, help="the folder that the evaluation wrote")
    parser.add_argument("--base-url", required=True, help="an OpenAI-compatible server: http://127.0.0.1:8000/v1")
    parser.add_argument("--model", required=True, help="the name under which the server knows the judge")
    parser.add_argument("--prompt", default="care", help=f"{', '.join(prompts.names())}; without version: the newest")
    parser.add_argument("--sample", type=_positive, help="judge so many responses of each data set, drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--concurrency", type=_positive, default=16, help="requests at a time")
    parser.add_argument("--timeout", type=_seconds, default=60.0, help="seconds for one attempt")
    parser.add_argument("--retries", type=_whole, default=4, help="attempts after the first")
    parser.add_argument("--ask-again", action="store_true", help="ask again where the server failed in an earlier call")
    parser.add_argument("--temperature", type=_temperature, default=0.0, help="a number, or `server`: its own default")
    parser.add_argument("--max-tokens", type=_positive, help="of a reply; a judge that reasons first needs more")
    parser.add_argument("--plain-json", action="store_true", help="for servers without response_format: json_schema")
    parser.add_argument("--api-key-env", default=_KEY, metavar="NAME", help=f"environment variable; default {_KEY}")
    parser.add_argument("--cache", type=Path, help="folder of replies; default ~/.cache/verl_care")
    parser.add_argument("--price-in", type=float, help="of a million prompt tokens, in any currency")
    parser.add_argument("--price-out", type=float, help="of a million reply tokens")


def run(arguments: argparse.Namespace) -> int:
    from filelock import FileLock, Timeout

    if find_spec("openai") is None:
        raise ValueError("the client of the judge's server is not installed: pip install openai, or verl_care[eval]")
    from verl_care.evaluation.judge.judging import Judge, sample

    judge = Judge(
        model=arguments.model,
        prompt=prompts.load(arguments.prompt),
        temperature=arguments.temperature,
        max_tokens=arguments.max_tokens,
        structured=not arguments.plain_json,
    )
    chosen = sample(rows.read_rows(arguments.run_folder), arguments.sample, arguments.seed)
    measures = arguments.run_folder / rows.MEASURES
    measures.mkdir(exist_ok=True)
    try:
        with FileLock(measures / f"{judge.measure}.lock", blocking=False):
            usage = asyncio.run(_judge(arguments, judge, chosen))
    except Timeout as error:
        raise ValueError(f"{measures} is being judged by {judge.measure} already: wait for that to end") from error
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where this one stopped", file=sys.stderr)
        return 130

    from verl_care.evaluation.judge.summary import table

    wanted = {row.key for row in chosen}
    measured = rows.read_measures(arguments.run_folder)[judge.measure]
    print(f"{judge.measure}\n{table(one for key, one in measured.items() if key in wanted)}\n{usage}")
    if arguments.price_in is not None or arguments.price_out is not None:
        print(f"cost {usage.cost(arguments.price_in or 0.0, arguments.price_out or 0.0):.4f}")
    return 0


async def _judge(arguments: argparse.Namespace, judge: Judge, chosen: list[rows.Row]) -> Usage:
    from tqdm import tqdm

    from verl_care.evaluation.judge.cache import Cache, default_folder
    from verl_care.evaluation.judge.judging import Verdicts, judge_rows
    from verl_care.evaluation.judge.server import Server

    verdicts = Verdicts(arguments.run_folder, judge)
    key = os.environ.get(arguments.api_key_env) or "EMPTY"  # a server of one's own asks for none
    server = Server(arguments.base_url, key, timeout=arguments.timeout, retries=arguments.retries)
    cache = Cache(arguments.cache or default_folder())
    try:
        with tqdm(total=len(chosen), desc=judge.measure, unit="response") as bar:
            return await judge_rows(
                chosen, judge, verdicts, cache, server,
                concurrency=arguments.concurrency, ask_again=arguments.ask_again, progress=bar.update,
            )  # fmt: skip
    finally:
        cache.close()
        await server.close()


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 on")
    return int(text)


def _positive(text: str) -> int:
    if _whole(text) < 1:
        raise argparse.ArgumentTypeError("0 is too few")
    return int(text)


def _seconds(text: str) -> float:
    if not 0 < float(text) < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no time above 0")
    return float(text)


def _temperature(text: str) -> float | None:
    return None if text == "server" else float(text)
