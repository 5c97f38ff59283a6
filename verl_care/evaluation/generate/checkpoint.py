"""Any checkpoint as a folder that vLLM loads, and a fingerprint of the model in it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from verl_care.checkpoints import folders
from verl_care.checks.files import HUB_NAME

MERGED = ".merged"  # global_step_500.merged, beside global_step_500
SOURCE = "merged_from.txt"
TEXTS = (".json", ".jinja", ".txt", ".model")  # configuration, tokenizer, processor: read whole
WEIGHTS = (".safetensors", ".bin")
BLOCK, BLOCKS = 1 << 16, 16
_SHARD = re.compile(r"model_world_size_(\d+)_rank_(\d+)\.pt")


class BadCheckpoint(ValueError):
    """No model that can be served, with the reason."""


def as_model(checkpoint: str) -> str:
    """What `actor_rollout_ref.model.path` is to be: a Hugging Face folder, or a name of the hub.

    Args:
        checkpoint: one of these, or a training checkpoint of verl's (`global_step_N`, or its `actor`), which is merged.

    Raises:
        BadCheckpoint: for anything else.
    """
    folder = Path(checkpoint).expanduser().absolute()
    if (folder / "config.json").is_file():
        return str(folder)
    actor = folder / "actor" if (folder / "actor").is_dir() else folder
    if any(actor.glob("model_world_size_*_rank_*.pt")):
        return str(merged(actor))
    if not folder.exists() and HUB_NAME.fullmatch(checkpoint):
        return checkpoint
    if not folder.exists():
        raise BadCheckpoint(f"{checkpoint}: no such folder, and no name of the hub such as Qwen/Qwen2.5-VL-7B-Instruct")
    steps = sorted(path.name for path in folder.glob("global_step_*"))
    nothing = "it has neither config.json nor actor/model_world_size_*"
    hint = f"name one of {', '.join(steps)} in it" if steps else nothing
    raise BadCheckpoint(f"{checkpoint} is no checkpoint: {hint}")


def name_of(checkpoint: str) -> str:
    """A short name for people: `Qwen2.5-VL-7B-Instruct`, `seed_bench_r1-global_step_500`."""
    path = Path(checkpoint).expanduser().absolute()
    path = path.parent if path.name == "actor" else path
    return f"{path.parent.name}-{path.name}" if folders.step_of(path) is not None else path.name


def run_merger(actor: Path, target: Path) -> None:
    """verl's own model merger, which reads shards of any number of ranks."""
    command = [sys.executable, "-m", "verl.model_merger", "merge", "--backend", "fsdp"]
    try:
        subprocess.run([*command, "--local_dir", str(actor), "--target_dir", str(target)], check=True)
    except subprocess.CalledProcessError as error:
        raise BadCheckpoint(
            f"verl's model merger ended with {error.returncode} on {actor}; its output is above"
        ) from error


def merged(actor: Path, merge: Callable[[Path, Path], None] = run_merger) -> Path:
    """The Hugging Face folder of a training checkpoint, made if it is not there or the checkpoint has changed since.

    It is whole or not there: made under another name, and renamed at the end.

    Raises:
        BadCheckpoint: if a rank's file is missing, or the merger fails.
    """
    step = actor.parent if actor.name == "actor" else actor
    target = step.with_name(step.name + MERGED)
    unfinished = step.with_name(step.name + MERGED + ".unfinished")
    with FileLock(f"{target}.lock"):
        source = _source(actor)
        if (target / SOURCE).exists() and (target / SOURCE).read_text() == source:
            return target
        why = "is not merged yet" if not target.exists() else "has changed since it was merged"
        print(f"{step} {why}: merging it into {target}", file=sys.stderr)
        shutil.rmtree(unfinished, ignore_errors=True)
        merge(actor, unfinished)
        if not (unfinished / "config.json").is_file():
            raise BadCheckpoint(f"verl's model merger left no config.json in {unfinished}")
        if _source(actor) != source:
            raise BadCheckpoint(f"{step} changed while it was merged: is a training writing there? Start again")
        (unfinished / SOURCE).write_text(source)
        if target.exists():
            shutil.rmtree(target)
        unfinished.rename(target)
    return target


def _source(actor: Path) -> str:
    """Each rank's file by name, size and time; they are too large to be read twice."""
    shards = {path.name: path.stat() for path in actor.iterdir() if _SHARD.fullmatch(path.name)}
    sizes = {int(match[1]) for name in shards if (match := _SHARD.fullmatch(name))}
    missing = [
        name
        for size in sizes
        for rank in range(size)
        if (name := f"model_world_size_{size}_rank_{rank}.pt") not in shards or not shards[name].st_size
    ]
    if missing or not (actor / "huggingface").is_dir():
        lacks = ", ".join(missing[:3]) if missing else "huggingface/, the model's configuration"
        raise BadCheckpoint(f"{actor} is not complete: it has no {lacks}. Name another checkpoint")
    return "".join(f"{name} {stat.st_size} {stat.st_mtime_ns}\n" for name, stat in sorted(shards.items()))


def local_folder(model: str) -> Path:
    """The folder of `actor_rollout_ref.model.path`; a name of the hub is looked up in its cache, or downloaded."""
    folder = Path(model).expanduser()
    if folder.exists():
        return folder
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(model))


def fingerprint(folder: Path) -> str:
    """A name of a model by its content: the same in another folder, or on another machine.

    Configuration, tokenizer and processor are read whole, README and other prose is left out. Of each file of weights:
    its name, its size, and 16 evenly spread blocks of 64 KiB, the first with the header. Two steps of one training
    differ in all of them, and 16 GB take milliseconds.
    """
    digest = hashlib.blake2b(digest_size=16)
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != SOURCE)
    for path in files:
        if path.suffix in TEXTS:
            content = path.read_bytes()
        elif path.suffix in WEIGHTS:
            content = b"".join(_blocks(path))
        else:
            continue
        digest.update(json.dumps([path.name, path.stat().st_size]).encode())
        digest.update(hashlib.blake2b(content).digest())
    return digest.hexdigest()


def _blocks(path: Path) -> list[bytes]:
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= BLOCK * BLOCKS:
            return [file.read()]
        blocks = []
        for number in range(BLOCKS):
            file.seek(number * (size - BLOCK) // (BLOCKS - 1), os.SEEK_SET)
            blocks.append(file.read(BLOCK))
        return blocks
