"""A step's three passes, packed, against verl's own engine on the same batch and weights.

    python -m benchmarks.packing_speed [--prompt-text N] [--group-size G] [--repeats R] [--threads T]

One group of the release's shapes: a clip of 16 frames (960 tokens), a prompt of about 1,162 tokens, 8 responses of
about 250, half of them selected, answers of 2 tokens; a small random Qwen2.5-VL, float32, on a CPU. Stock is verl
0.9.1's FSDP engine as GRPO with KL runs it: old log-probs, reference log-probs, update. Ours scores the answers of the
selected responses for the reference, and updates without KL; strictly on-policy it needs no old log-probs.

Seconds are those of this process on the CPU, so that other processes disturb them little; the median of the repeats,
after a warm-up. Memory is the growth of the process's resident set at its highest.
"""

from __future__ import annotations

import argparse
import ctypes
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks import engines
from benchmarks.models import write_model
from verl_care.packing.media import divide, size_of
from verl_care.packing.rows import column

STATUS = Path("/proc/self/status")
GIB = 1 << 20  # of the KiB that the kernel counts in


class Cost(NamedTuple):
    seconds: float
    gib: float


def measure(function: Callable[[], Any], repeats: int) -> Cost:
    """Median seconds, and how far the resident set rose at most, after one call that does not count."""
    function()
    taken, risen = [], []
    for _ in range(repeats):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the highest resident set is counted anew
        before, start = _kib("VmRSS"), time.process_time()
        function()
        taken.append(time.process_time() - start)
        risen.append((_kib("VmHWM") - before) / GIB)
    return Cost(statistics.median(taken), statistics.median(risen))


def _kib(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+)", STATUS.read_text())
    assert found, name
    return int(found[1])


def selected_answers(data: Any) -> Any:
    """Every other response, and of each its last two tokens but one: where `<answer>A</answer>` has its letter."""
    from verl.utils import tensordict_utils as tu

    half = tu.index_select_tensor_dict(data, list(range(0, len(data), 2)))
    places = [torch.arange(len(response)) for response in half["responses"].unbind()]
    wanted = [(place >= len(place) - 3) & (place < len(place) - 1) for place in places]
    half["answer_mask"] = torch.nested.as_nested_tensor(wanted, layout=torch.jagged)
    return half


def passes(engine: Any, data: Any, config: Any, packed: bool) -> dict[str, Callable[[], Any]]:
    """The three passes by name, each on a fresh copy of the batch, with the quick start's budget of a micro-batch."""
    loss, budget = engines.loss_of(config), config.actor.ppo_max_token_len_per_gpu

    def score(batch: Any, **settings: Any) -> None:
        with engine.eval_mode():
            engine.infer_batch(engines.marked(batch, compute_loss=False, max_token_len_per_gpu=budget, **settings))

    def update() -> None:
        with engine.train_mode():
            engine.forward_backward_batch(engines.marked(data, max_token_len_per_gpu=budget), loss)

    half = selected_answers(data)
    if packed:
        return {
            "old log-probs": lambda: score(data, calculate_entropy=True),
            "reference": lambda: score(half, logits_wanted_in="answer_mask"),
            "update": update,
        }
    return {
        "old log-probs": lambda: score(data, calculate_entropy=True),
        "reference": lambda: score(data),
        "update": update,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompt-text", type=int, default=198, help="text tokens besides the clip's 962")
    parser.add_argument("--group-size", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--width", type=int, default=256, help="hidden size of the language model")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--skip-stock", action="store_true")
    args = parser.parse_args()

    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(225, 276, (args.group_size,), generator=generator).tolist()
    prompt = engines.Prompt("group", lengths, text=args.prompt_text, videos=[(8, 16, 30)])
    data = engines.batch([prompt], generator)
    tokens = len(data["prompts"].unbind()[0])
    print(f"{args.group_size} responses of {sum(lengths) // len(lengths)} tokens to a prompt of {tokens}")

    pixels = size_of(divide(column(data, "multi_modal_inputs")[0])[0]) / 1e6
    print(f"its pixels: {pixels:.1f} MB once, {pixels * args.group_size:.1f} MB once per response")

    costs: dict[bool, dict[str, Cost]] = {}
    with tempfile.TemporaryDirectory() as folder, engines.one_process_group(Path(folder)):
        model = write_model(
            Path(folder) / "model", "qwen2_5_vl", width=args.width, layers=args.layers, vision_layers=args.layers
        )
        for packed in (True,) if args.skip_stock else (False, True):
            kl = [] if packed else ["actor_rollout_ref.actor.use_kl_loss=true"]
            config = engines.configuration(model, *kl)
            engine = engines.start_engine(config, packed)
            torch.set_num_threads(args.threads)
            costs[packed] = {
                name: measure(function, args.repeats) for name, function in passes(engine, data, config, packed).items()
            }
            for name, cost in costs[packed].items():
                print(f"{'packed' if packed else 'stock ':6} {name:14} {cost.seconds:8.2f} s {cost.gib:7.3f} GiB")
            del engine
    if args.skip_stock:
        return
    stock, ours = costs[False], costs[True]
    for name, cost in ours.items():
        seconds, gib = cost.seconds / stock[name].seconds, cost.gib / stock[name].gib
        print(f"{name:28} {seconds:.3f} of stock's time, {gib:.3f} of its memory")
    whole = sum(cost.seconds for cost in stock.values())
    on_policy = ours["reference"].seconds + ours["update"].seconds
    print(f"{'all, strictly on-policy':28} {on_policy / whole:.3f} of stock's time")
    print(f"{'all, with old log-probs':28} {(on_policy + ours['old log-probs'].seconds) / whole:.3f} of stock's time")


if __name__ == "__main__":
    main()
