"""What the columns that no pass reads cost a worker: a batch as verl sends it, and as `verl_care.worker_fields` does.

python -m benchmarks.worker_fields [--rows N]

The operations are those of every pass: choosing rows, moving a micro-batch to its device, and a shallow copy.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from tensordict import TensorDict
from verl.utils import tensordict_utils as tu

from verl_care.worker_fields import UNREAD

TIMES = 15
TOKENS = 100  # a row's
OBJECTS = ("uid", "multi_modal_inputs", "raw_prompt", "reward_model", "extra_info", "extra_fields", "metrics", "prompt")
OBJECTS += ("tools_kwargs", "interaction_kwargs", "data_source", "mm_processor_kwargs", "mm_processor_output")
"""The columns of objects that a run of the quick start has in TransferQueue."""


def batch_of(rows: int, names: tuple[str, ...]) -> TensorDict:
    tokens = torch.nested.as_nested_tensor([torch.arange(TOKENS + row % 5) for row in range(rows)], layout=torch.jagged)
    batch = TensorDict({"input_ids": tokens, "loss_mask": tokens.clone()}, batch_size=[rows])
    for name in names:
        tu.assign_non_tensor_stack(batch, name, [{"of": name, "row": row} for row in range(rows)])
    return batch


def milliseconds(operation: Callable[[TensorDict], object], batch: TensorDict) -> float:
    """Median of `TIMES` calls, the first left out."""
    taken = []
    for _ in range(TIMES + 1):
        began = time.perf_counter()
        operation(batch)
        taken.append(1e3 * (time.perf_counter() - began))
    return statistics.median(taken[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description="Columns of objects that no pass reads: what they cost.")
    parser.add_argument("--rows", type=int, default=32, help="responses of a step (default: %(default)s)")
    rows = parser.parse_args().rows
    torch.set_num_threads(1)
    every = batch_of(rows, OBJECTS)
    sent = batch_of(rows, tuple(name for name in OBJECTS if name not in UNREAD))
    operations = {
        "choose rows": lambda batch: tu.index_select_tensor_dict(batch, list(range(rows))),
        "to the device": lambda batch: batch.to("cpu"),
        "copy": lambda batch: batch.copy(),
    }
    print(f"{rows} rows, milliseconds   every column   those read   ratio")
    for name, operation in operations.items():
        first, second = (milliseconds(operation, batch) for batch in (every, sent))
        print(f"{name:<24}{first:>12.1f}{second:>13.1f}{first / second:>8.1f}")


if __name__ == "__main__":
    main()
