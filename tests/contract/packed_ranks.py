"""An update on two ranks, by verl's engine and by the packed one; run as a program, since each rank is a process.

    python -m tests.contract.packed_ranks FOLDER

Writes loss, gradients and micro-batches of both to FOLDER/rank_<r>.pt.
"""

from __future__ import annotations

import sys
from pathlib import Path
from unittest import mock

import torch
import torch.distributed as dist

from benchmarks import engines
from benchmarks.models import write_model

# Rank 0 has clips and few rows of text, rank 1 text alone and one long row: other numbers of groups, other lengths.
SHARES = (
    [
        engines.Prompt("clip", [30, 40, 50], videos=[(4, 4, 4)]),
        engines.Prompt("both", [9], videos=[(1, 4, 4)], images=[(1, 2, 2)]),
    ],
    [engines.Prompt("text", [7, 5], text=20), engines.Prompt("long", [150], text=9), engines.Prompt("short", [1])],
)
BUDGET = 170  # tokens of a micro-batch: several on each rank


def run(rank: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=len(SHARES))
    torch.set_num_threads(1)
    config = engines.configuration(folder / "model", "trainer.n_gpus_per_node=2")
    data = engines.batch(SHARES[rank], torch.Generator().manual_seed(rank))
    result = {}
    for packed in (False, True):
        engine = engines.start_engine(config, packed)
        rows: list[int] = []
        step = type(engine).forward_step

        def counted(self, micro_batch, *args, rows=rows, step=step, **kwargs):
            rows.append(len(micro_batch))
            return step(self, micro_batch, *args, **kwargs)

        marks = {"max_token_len_per_gpu": BUDGET, "global_batch_size": sum(len(p.responses) for s in SHARES for p in s)}
        with mock.patch.object(type(engine), "forward_step", counted), engine.train_mode():
            outputs = engine.forward_backward_batch(engines.marked(data, **marks), engines.loss_of(config))
            result[packed] = {"loss": sum(outputs["loss"]), "gradients": engines.gradients(engine), "rows": rows}
    torch.save(result, folder / f"rank_{rank}.pt")
    dist.destroy_process_group()


def main(folder: Path) -> None:
    write_model(folder / "model", "qwen2_5_vl")
    torch.multiprocessing.spawn(run, args=(folder,), nprocs=len(SHARES))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
