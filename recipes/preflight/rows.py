"""The rows of a run's data files, and a sample of them as the model would see it."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from omegaconf import DictConfig, ListConfig
from tqdm import tqdm

from verl_care.data.marks import Columns, mismatches

COLUMNS = ("data_source", "reward_model", "extra_info")  # beside prompts and media, whose names are settings
BATCH = 4096  # rows at a time, so that a file of any length fits

T = TypeVar("T")


class BadData(ValueError):
    """A data file that verl or the reward could not use; the message names file, row and column."""


def files_of(config: DictConfig, key: str) -> list[Path]:
    value = config.data[key]
    return [Path(str(file)).expanduser() for file in (value if isinstance(value, ListConfig) else [value])]


@dataclass(frozen=True)
class Survey:
    """What is in a file."""

    rows: int
    kinds: Counter[str]
    """Problem type -> rows."""
    missing: list[str]
    """Media files that are not there."""
    names: Counter[tuple[str, str]]
    """(data_source, extra_info.id) -> rows."""
    nameless: int
    """Rows without an id."""


def survey(file: Path, data: DictConfig, progress: TextIO | None = None) -> Survey:
    """Raises:
    BadData: no parquet file, a column that is missing, a row without an answer in text, with an unknown problem type,
        or with not as many media as marks in its prompt.
    """
    from verl_care.rewards.grading import GRADERS

    kinds: Counter[str] = Counter()
    names: Counter[tuple[str, str]] = Counter()
    seen: dict[str, bool] = {}
    number, columns = 0, Columns.of(data)
    for row, mismatch in _bar(_rows(file, columns), file.stem, progress):
        info = row["extra_info"] or {}
        kind = info.get("problem_type") or "multiple choice"  # as grading does
        if kind not in GRADERS:
            raise BadData(f"{file}, row {number}, extra_info.problem_type: {kind!r}, which no rule grades")
        truth = (row["reward_model"] or {}).get("ground_truth")
        if truth in (None, ""):
            raise BadData(f"{file}, row {number}, reward_model.ground_truth: empty, so no response could be right")
        if not isinstance(truth, str):
            raise BadData(f"{file}, row {number}, reward_model.ground_truth: {truth!r}, and grading reads texts alone")
        if mismatch:
            raise BadData(f"{file}, row {number}: {mismatch}, where each mark stands for one of them")
        kinds[kind] += 1
        if info.get("id") not in (None, ""):
            names[str(row["data_source"]), str(info["id"])] += 1
        for path in media_paths(row, columns):
            if path not in seen:
                seen[path] = _is_there(path)
        number += 1
    missing = [path for path, exists in seen.items() if not exists]
    return Survey(number, kinds, missing, names, nameless=number - names.total())


def media_paths(row: dict[str, Any], columns: Columns) -> Iterator[str]:
    """Every file that a row shows. A clip may be one file, or a list of frames."""
    for key in ("video", "image"):
        for entry in row.get(getattr(columns, key)) or ():
            value = entry.get(key) if isinstance(entry, dict) else entry
            for path in value if isinstance(value, list) else [value]:
                if isinstance(path, str):
                    yield path


def _is_there(path: str) -> bool:
    from verl_care.data.decoders import MediaError
    from verl_care.data.sources import local_path

    try:
        return os.path.exists(local_path(path, "file"))
    except MediaError:  # an address, say: nothing that training would find either
        return False


def _rows(file: Path, columns: Columns) -> Iterator[tuple[dict[str, Any], str | None]]:
    """Rows, and what is wrong with the number of their media."""
    try:
        parquet = pq.ParquetFile(file)
        names = parquet.schema_arrow.names
        missing = [name for name in (*COLUMNS, columns.prompt) if name not in names]
        if missing:
            raise BadData(f"{file}: has no column {', '.join(missing)}: no file of data_prep")
        wanted = [name for name in (*COLUMNS, *columns) if name in names]
        for batch in parquet.iter_batches(BATCH, columns=wanted):
            yield from zip(batch.to_pylist(), mismatches(batch, columns), strict=True)
    except (pa.ArrowException, OSError) as error:
        raise BadData(f"{file}: {error}") from error


@dataclass(frozen=True)
class Prompts:
    """What prompts were found to be."""

    lengths: list[int]
    """Tokens of each that could be measured or made."""
    failures: list[str]
    """Why the others could not."""


def measured(config: DictConfig, file: Path, most: int, progress: TextIO | None = None, seed: int = 0) -> Prompts:
    """Lengths of the prompts of all rows, or of `most` of them, from the headers of their media.

    Raises:
        UnknownProcessor: for a model whose lengths cannot be told without pixels.
    """
    from transformers import AutoProcessor

    from verl_care.data.budget import ImageBudget, VideoSettings
    from verl_care.data.decoders import MediaError
    from verl_care.data.prompt_length import PromptLength

    processor = AutoProcessor.from_pretrained(str(Path(config.actor_rollout_ref.model.path).expanduser()))
    budgets = VideoSettings(**(config.data.get("video") or {})).budget, ImageBudget(**(config.data.get("image") or {}))
    length_of = PromptLength(processor, *budgets, Columns.of(config.data))
    count = pq.ParquetFile(file).metadata.num_rows
    chosen = set(random.Random(seed).sample(range(count), min(most, count)))
    lengths, failures = [], []
    batches = (row for batch in pq.ParquetFile(file).iter_batches(BATCH) for row in batch.to_pylist())
    for number, row in enumerate(_bar(batches, f"{file.stem}: prompts", progress)):
        if number in chosen:
            try:
                lengths.append(length_of(row))
            except MediaError as error:
                failures.append(f"row {number}: {error}")
    return Prompts(lengths, failures)


def sample(config: DictConfig, file: Path, count: int, progress: TextIO | None = None, seed: int = 0) -> Prompts:
    """Prompts of `count` rows, made by the run's own dataset and the model's own processor, pixels included."""
    from transformers import AutoProcessor

    from verl_care.data.dataset import CareDataset

    processor: Any = AutoProcessor.from_pretrained(str(Path(config.actor_rollout_ref.model.path).expanduser()))
    dataset = CareDataset(str(file), tokenizer=processor.tokenizer, processor=processor, config=config.data)
    chosen = sorted(random.Random(seed).sample(range(len(dataset)), min(count, len(dataset))))
    lengths, failures = [], []
    for number in _bar(chosen, f"{file.stem}: sample", progress):
        try:
            lengths.append(_prompt_length(dataset[number]["raw_prompt"], processor, config))
        except (ValueError, OSError) as error:  # MediaError is a ValueError
            failures.append(f"row {number}: {error}")
    return Prompts(lengths, failures)


def _prompt_length(messages: list[dict], processor: Any, config: DictConfig) -> int:
    from verl_care.data.dataset import CareDataset

    patch_size = config.data.get("image_patch_size", 14)
    made = asyncio.run(CareDataset.process_multi_modal_info(messages, patch_size, config.data))
    images, videos = made[:2]
    text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    clips = [clip for clip, _ in videos or ()]
    inputs = processor(
        text=[text],
        images=images,
        videos=clips or None,
        video_metadata=[metadata for _, metadata in videos or ()] or None,
        do_sample_frames=False,
    )
    return len(inputs["input_ids"][0])


def _bar(items: Iterable[T], what: str, progress: TextIO | None) -> Iterable[T]:
    hidden = progress is None or not progress.isatty()
    return tqdm(items, desc=what, unit=" rows", leave=False, file=progress, disable=hidden)
