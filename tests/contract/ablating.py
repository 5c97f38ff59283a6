"""One update with a frozen tower, and the reference's choices, by `CareWorker` alone: `resumable.py` has the harness.

python -m tests.contract.ablating FOLDER
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch

from tests.contract import resumable


def chosen(worker: Any, tokenizer: Any, wanted: str | None) -> Any:
    from verl.utils import tensordict_utils as tu

    from verl_care.ablations import choices

    data = resumable.batch(0, tokenizer)
    for key in ("global_batch_size", "mini_batch_size", "epochs", "seed", "dataloader_kwargs"):
        tu.pop(data, key)
    tu.assign_non_tensor(data, compute_loss=False, **{choices.WANTED: wanted})
    return worker.compute_ref_log_prob(data)


def by_hand(model: Path) -> list[int]:
    """The choices for the text-only response, from transformers alone; to be called before verl changes its forward."""
    from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration

    tokenizer = AutoTokenizer.from_pretrained(model)
    row = resumable.batch(0, tokenizer)["input_ids"].unbind()[2]
    logits = Qwen2_5_VLForConditionalGeneration.from_pretrained(model)(input_ids=row[None]).logits
    return logits[0].argmax(-1).tolist()


def main(folder: Path) -> None:
    from verl_care.ablations.choices import CHOICE

    for key, value in (("WORLD_SIZE", "1"), ("RANK", "0"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", "0")):
        os.environ[key] = value
    os.environ["DIST_INIT_METHOD"] = f"file://{folder}/rendezvous"
    resumable.write_model(folder / "model")
    result: dict[str, Any] = {"by hand": by_hand(folder / "model")}
    config = resumable.configuration(folder / "model", "actor_rollout_ref.actor.freeze_vision_tower=true")
    worker = resumable.start_worker(config)
    torch.set_num_threads(1)
    tokenizer = worker.actor.model_config.tokenizer

    stock, choosing = chosen(worker, tokenizer, None), chosen(worker, tokenizer, "greedy")
    result["stock keys"] = [key for key in ("log_probs", CHOICE) if key in stock]
    result["same log-probabilities"] = torch.equal(stock["log_probs"].values(), choosing["log_probs"].values())
    result["lengths"] = choosing[CHOICE].offsets().tolist(), choosing["log_probs"].offsets().tolist()
    result["choices"] = choosing[CHOICE].unbind()[2].tolist()
    drawn = [chosen(worker, tokenizer, "sampled")[CHOICE].values() for _ in range(2)]
    result["same draws"] = torch.equal(*drawn)
    result["drawn"] = drawn[0].shape == choosing[CHOICE].values().shape, int(drawn[0].min()), int(drawn[0].max())
    result["vocabulary"] = worker.ref.engine.module.config.get_text_config().vocab_size

    actor = worker.actor.engine
    gradients: dict[str, bool] = {}

    def look(optimizer: Any, *_: Any) -> None:
        gradients.update((name, p.grad is not None) for name, p in actor.module.named_parameters())

    actor.optimizer.register_step_pre_hook(look)
    before = resumable.flat(dict(actor.module.named_parameters()))
    worker.update_actor(resumable.batch(0, tokenizer))
    after = resumable.flat(dict(actor.module.named_parameters()))
    result["has gradient"] = gradients
    result["has state"] = {name: p in actor.optimizer.state for name, p in actor.module.named_parameters()}
    result["moved"] = {name.lstrip("/"): not torch.equal(before[name], after[name]) for name in before}
    worker.save_checkpoint(str(folder / "actor"), None, 1)
    worker.load_checkpoint(str(folder / "actor"))
    torch.save(result, folder / "result.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
