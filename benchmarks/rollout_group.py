"""What a step's responses cost around their generation: one by one, as verl does, and as a group.

    python -m benchmarks.rollout_group [--prompts P] [--responses G] [--repeats N]

The put of their rows into TransferQueue, and their reward by one of verl's workers or, with `reward.num_workers=0`,
where they were made. Processor time of this process and of all that it started: on a laptop that is time generation
does not get. Medians; ways in turns.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import psutil
import ray
import torch
import transfer_queue as tq
from omegaconf import OmegaConf
from tensordict import TensorDict
from tqdm import tqdm
from verl import DataProto
from verl.experimental.reward_loop.reward_loop import RewardLoopWorker
from verl.utils.tensordict_utils import list_of_dict_to_tensordict

import verl_care.rewards.manager  # noqa: F401 - registers
from recipes.quickstart.model import build_tokenizer
from verl_care.packing.group import Group, current
from verl_care.packing.rollouts import RowsTogether
from verl_care.rewards.in_process import InProcessRewards

PROMPT, RESPONSE = 80, 20  # tokens
TEXT = "<think>so</think>\n<answer>A</answer>"
OBJECTS = {
    "raw_prompt": [{"role": "user", "content": "Which step comes next?"}],
    "reward_model": {"ground_truth": "<answer>A</answer>"},
    "extra_info": {"problem_type": "multiple choice", "id": "17"},
    "data_source": "miniature",
    "multi_modal_inputs": {"video_grid_thw": torch.tensor([[2, 4, 4]])},
}
PARTITION = "benchmark"
Way = Callable[[str, int], Awaitable[Any]]
"""Of a prompt's uid and a response's number."""


def row(session: int) -> dict[str, Any]:
    length = RESPONSE + session % 3
    tokens = torch.arange(PROMPT + length)
    masks = {name: torch.ones(length, dtype=torch.int64) for name in ("response_mask", "loss_mask")}
    ids = {"prompts": tokens[:PROMPT], "responses": tokens[PROMPT:], "input_ids": tokens}
    return ids | masks | OBJECTS | {"position_ids": tokens.expand(4, -1), "rollout_log_probs": torch.zeros(length)}


async def put(queue: Any, columns_of: Callable[[list[dict[str, Any]]], Any], uid: str, session: int) -> None:
    keys = [f"{uid}_{session}_0"]
    fields = columns_of([row(session)])
    await queue.async_kv_batch_put(keys=keys, fields=fields, tags=[{"seq_len": 100}], partition_id=PARTITION)


def graded(handle: Any, ids: torch.Tensor) -> Way:
    async def grade(uid: str, session: int) -> Any:
        columns = {name: OBJECTS[name] for name in ("reward_model", "extra_info", "data_source", "raw_prompt")}
        rows = {name: np.array([None], dtype=object) for name in columns}
        for name, value in columns.items():
            rows[name][0] = value
        rows["response_len"] = np.array([ids.shape[1]])
        data = DataProto(batch=TensorDict({"responses": ids, "input_ids": ids}, batch_size=1), non_tensor_batch=rows)
        return await handle.compute_score.remote(data)

    return grade


async def step(of_a_response: Way, prompts: int, responses: int) -> None:
    async def response(uid: str, session: int) -> None:
        group = current.get()
        assert group is not None
        with group.response():
            await asyncio.sleep(0)  # where verl waits for the server
            await of_a_response(uid, session)

    async def prompt(uid: str) -> None:
        current.set(Group())
        await asyncio.gather(*(asyncio.create_task(response(uid, session)) for session in range(responses)))

    await asyncio.gather(*(asyncio.create_task(prompt(f"prompt{number}")) for number in range(prompts)))


def processor_seconds() -> float:
    ours = psutil.Process()
    return sum(sum(process.cpu_times()[:2]) for process in _alive([ours, *ours.children(recursive=True)]))


def _alive(processes: list[psutil.Process]) -> Iterator[psutil.Process]:
    return (process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE)


async def measure(args: argparse.Namespace, model: str) -> None:
    reward = {
        "reward_manager": {"source": "register", "name": "care"},
        "custom_reward_function": {"path": None},
        "reward_model": {"enable": False},
        "num_workers": 1,
    }
    config = OmegaConf.create(
        {"reward": reward, "actor_rollout_ref": {"model": {"path": model, "tokenizer_path": model}}}
    )
    worker = ray.remote(RewardLoopWorker).remote(config)
    ids = torch.tensor([build_tokenizer().encode(TEXT)])
    ways: dict[str, tuple[Way, Way]] = {
        "put of the rows": (partial(put, tq, list_of_dict_to_tensordict), partial(put, RowsTogether(tq), list)),
        "reward": (graded(worker, ids), graded(InProcessRewards(config), ids)),
    }
    print(f"{args.prompts} prompts, {args.responses} responses: ms of processor time a step, one by one / here / ratio")
    for name, pair in ways.items():
        spent: tuple[list[float], list[float]] = ([], [])
        for turn in tqdm(range(args.repeats + 1), desc=name, unit="turn", leave=False):
            for way, seconds in zip(pair, spent, strict=True):
                began = processor_seconds()
                for _ in range(args.steps):
                    await step(way, args.prompts, args.responses)
                if turn:
                    seconds.append(1000 * (processor_seconds() - began) / args.steps)
        stock, ours = map(statistics.median, spent)
        print(f"{name:<18}{stock:>8.1f}{ours:>8.1f}{stock / ours:>8.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--responses", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10, help="of a turn: processor time is counted in hundredths")
    args = parser.parse_args()
    ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False)
    try:
        storage = {"num_data_storage_units": 1}
        tq.init(OmegaConf.create({"backend": {"SimpleStorage": storage}}))
        with tempfile.TemporaryDirectory() as model:
            build_tokenizer().save_pretrained(model)
            asyncio.run(measure(args, model))
        tq.close()
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main()
