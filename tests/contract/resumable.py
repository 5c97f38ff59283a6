"""A stretch of training with `CareWorker` alone: real FSDP2 engines and checkpoints, no Ray and no rollouts.

    python -m tests.contract.resumable FOLDER plan

with plan `unbroken` (four steps, saved after the second) or `resumed` (load, the other two). Each writes what the
worker holds on the way, to the last bit, to FOLDER/<plan>.pt.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf, open_dict

DECAY = 0.9


def write_model(folder: Path) -> None:
    from recipes.quickstart.model import build_model, build_processor

    processor = build_processor()
    build_model(processor.tokenizer, seed=0).save_pretrained(folder)
    processor.save_pretrained(folder)


def configuration(model: Path, *overrides: str) -> DictConfig:
    from hydra import compose, initialize_config_module

    from verl_care import packing

    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose("care_quickstart", overrides=["actor_rollout_ref.actor.optim.lr=1e-2", *overrides])
    with open_dict(config):
        packing.choose(config)
        config.actor_rollout_ref.model.path = str(model)
        config.actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu = 2
        config.actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu = 2
        config.actor_rollout_ref.actor.optim.lr_scheduler_type = "cosine"
        config.actor_rollout_ref.actor.optim.total_training_steps = 4
    OmegaConf.resolve(config)
    return config


def start_worker(config: DictConfig) -> Any:
    """The actor and the reference of one rank; where verl would start vLLM there is nothing."""
    from unittest import mock

    from verl.workers import engine_workers

    from verl_care.workers import CareWorker

    with mock.patch.object(engine_workers, "get_rollout_class", return_value=mock.Mock()):
        worker = CareWorker(config=config.actor_rollout_ref, role="actor_rollout_ref")
        worker.init_model()
    return worker


def batch(step: int, tokenizer: Any) -> Any:
    """Four responses to prompts with a clip, an image, neither and both, as TransferQueue hands them to a worker."""
    from verl.utils import tensordict_utils as tu

    generator = torch.Generator().manual_seed(step)
    pads = {name: tokenizer.convert_tokens_to_ids(f"<|{name}_pad|>") for name in ("video", "image")}
    fields = {"video": ("pixel_values_videos", "video_grid_thw"), "image": ("pixel_values", "image_grid_thw")}
    rows = []
    for number, kinds in enumerate((("video",), ("image",), (), ("video", "image"))):
        prompt, vision = [5, 6], {}
        for kind in kinds:
            prompt += [pads[kind]] * 4
            vision[fields[kind][0]] = torch.randn(16, 3 * 2 * 14 * 14, generator=generator)
            vision[fields[kind][1]] = torch.tensor([[1, 4, 4]])
        response = torch.randint(0, 250, (3 + (step + number) % 4,), generator=generator)
        ids = torch.cat([torch.tensor(prompt), response])
        mask = torch.ones_like(response)
        rows.append(
            {
                "prompts": torch.tensor(prompt),
                "responses": response,
                "response_mask": mask,
                "loss_mask": mask,
                "input_ids": ids,
                "position_ids": torch.arange(len(ids)).expand(4, -1).clone(),
                "multi_modal_inputs": vision,
                "old_log_probs": torch.full(response.shape, -5.0),
                "advantages": torch.randn(1, generator=generator).expand(response.shape).clone(),
            }
        )
    data = tu.list_of_dict_to_tensordict(rows)
    tu.assign_non_tensor(
        data, temperature=1.0, calculate_entropy=False, global_batch_size=4, mini_batch_size=4, epochs=1, seed=42,
        dataloader_kwargs={"shuffle": False},
    )  # fmt: skip
    return data


def ref_log_probs(worker: Any, tokenizer: Any) -> torch.Tensor:
    from verl.utils import tensordict_utils as tu

    data = batch(0, tokenizer)
    for key in ("global_batch_size", "mini_batch_size", "epochs", "seed", "dataloader_kwargs"):
        tu.pop(data, key)
    tu.assign_non_tensor(data, compute_loss=False)
    return worker.compute_ref_log_prob(data)["log_probs"].values()


def train(worker: Any, steps: range, tokenizer: Any) -> list[float]:
    distances = []
    for step in steps:
        ref_log_probs(worker, tokenizer)
        worker.update_actor(batch(step, tokenizer))
        distances.append(worker.update_reference(DECAY))
    return distances


def state(worker: Any, tokenizer: Any) -> dict[str, Any]:
    """Everything that the next step depends on."""
    policy, reference = worker.actor.engine.module, worker.ref.engine.module
    parts = {
        "policy": dict(policy.named_parameters()),
        "reference": dict(reference.named_parameters()),
        "optimizer": worker.actor.engine.optimizer.state_dict(),
        "learning rate": worker.actor.engine.lr_scheduler.state_dict(),
        "reference log-probabilities": ref_log_probs(worker, tokenizer),
    }
    return {name: flat(part) for name, part in parts.items()}


def flat(tree: Any) -> dict[str, Any]:
    """Its leaves by their path; tensors copied, since one rank's whole tensor shares memory with the shard."""
    if isinstance(tree, torch.Tensor):
        return {"": getattr(tree, "full_tensor", lambda: tree)().detach().clone()}
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list | tuple) else None
    if items is None:
        return {"": tree}
    return {f"/{key}{path}": leaf for key, branch in items for path, leaf in flat(branch).items()}


def one_rank(rendezvous: Path) -> None:
    """What Ray would tell a worker about its place among the others: there are none."""
    for key, value in (("WORLD_SIZE", "1"), ("RANK", "0"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", "0")):
        os.environ[key] = value
    os.environ["DIST_INIT_METHOD"] = f"file://{rendezvous}"


def main(folder: Path, plan: str, *overrides: str) -> None:
    one_rank(folder / f"{plan}.rendezvous")
    if not (folder / "model").exists():
        write_model(folder / "model")
    worker = start_worker(configuration(folder / "model", *overrides))
    torch.set_num_threads(1)  # for a model this small more only wait for each other
    tokenizer = worker.actor.model_config.tokenizer
    checkpoint = folder / "global_step_2"
    result: dict[str, Any] = {"start": state(worker, tokenizer)}
    if plan == "unbroken":
        result["distances"] = train(worker, range(2), tokenizer)
        worker.save_reference(str(checkpoint / "reference"))
        worker.save_checkpoint(str(checkpoint / "actor"), None, 2)
    else:
        worker.load_checkpoint(str(checkpoint / "actor"))
        worker.load_reference(str(checkpoint / "reference"))
        result["distances"] = []
    result["half-way"] = state(worker, tokenizer)
    result["distances"] += train(worker, range(2, 4), tokenizer)
    result["end"] = state(worker, tokenizer)
    torch.save(result, folder / f"{plan}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
