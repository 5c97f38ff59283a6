"""One update of a real worker, with verl's pass for old log-probabilities before it and without.

    python -m tests.contract.on_policy_updates FOLDER

writes gradients, loss and metrics of both to FOLDER/updates.pt. The learning rate is 0, so both see the same weights.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from tests.contract.resumable import batch, configuration, one_rank, start_worker, write_model
from verl_care.on_policy import restore_metrics

ONE_ROW_A_MICRO_BATCH = ["actor_rollout_ref.actor.ppo_max_token_len_per_gpu=20"]
SETTINGS = ["actor_rollout_ref.actor.optim.lr=0", *ONE_ROW_A_MICRO_BATCH]


def update(worker: Any, data: Any) -> dict[str, Any]:
    from verl.utils import tensordict_utils as tu
    from verl.utils.metric import reduce_metrics
    from verl.utils.py_functional import rename_dict

    engine, gradients, losses = worker.actor.engine, {}, []

    def keep_gradients() -> float:
        gradients.update({name: weight.grad.full_tensor().clone() for name, weight in engine.module.named_parameters()})
        return step()

    def count_micro_batches(*args: Any, **kwargs: Any) -> Any:
        losses.append(loss(*args, **kwargs))
        return losses[-1]

    step, loss = engine.optimizer_step, worker.actor.loss_fn
    tu.assign_non_tensor(data, calculate_entropy=True)
    with (
        mock.patch.object(engine, "optimizer_step", keep_gradients),
        mock.patch.object(worker.actor, "loss_fn", count_micro_batches),
    ):
        metrics = reduce_metrics(rename_dict(worker.update_actor(data)["metrics"], "actor/"))
    restore_metrics(metrics)
    return {"gradients": gradients, "metrics": metrics, "micro_batches": len(losses)}


def rollout(tokenizer: Any) -> Any:
    """A batch as it comes from the rollout: with its log-probabilities, and no old ones yet."""
    data = batch(1, tokenizer)
    del data["old_log_probs"]
    generator = torch.Generator().manual_seed(5)
    rows = [-5.0 - torch.rand(len(row), generator=generator) for row in data["responses"].unbind()]
    data["rollout_log_probs"] = torch.nested.as_nested_tensor(rows, layout=torch.jagged)
    return data


def with_the_pass(worker: Any, tokenizer: Any) -> dict[str, Any]:
    """What verl's `_compute_old_log_prob` does, and its metrics."""
    from verl import DataProto
    from verl.trainer.ppo.core_algos import agg_loss
    from verl.utils import tensordict_utils as tu
    from verl.utils.debug.metrics import calculate_debug_metrics
    from verl.workers.utils.padding import response_from_nested

    data, asked = rollout(tokenizer), rollout(tokenizer)
    for key in ("global_batch_size", "mini_batch_size", "epochs", "seed", "dataloader_kwargs"):
        tu.pop(asked, key)
    tu.assign_non_tensor(asked, compute_loss=False, calculate_entropy=True)
    output = worker.compute_log_prob(asked)
    mask = data["response_mask"]
    data["old_log_probs"] = response_from_nested(output["log_probs"], mask)
    whole = data.select("old_log_probs", "rollout_log_probs", "responses", "response_mask").to_padded_tensor()
    entropy = response_from_nested(output["entropy"], mask).to_padded_tensor(0.0)
    result = update(worker, data)
    result["metrics"] |= calculate_debug_metrics(DataProto(batch=whole))
    mode = worker.config.actor.loss_agg_mode
    result["metrics"]["actor/entropy"] = agg_loss(entropy, whole["response_mask"], mode).item()
    return result


def main(folder: Path) -> None:
    one_rank(folder / "updates.rendezvous")
    write_model(folder / "model")
    worker = start_worker(configuration(folder / "model", *SETTINGS))
    torch.set_num_threads(1)
    tokenizer = worker.actor.model_config.tokenizer
    result = {"with": with_the_pass(worker, tokenizer), "without": update(worker, rollout(tokenizer))}
    torch.save(result, folder / "updates.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
