"""What a training step leaves behind of its groups: one JSON line per prompt, with all that its responses were given.

The lines of a run are in `groups.jsonl.zst`, or `groups.jsonl`, in its folder. `docs/report.md` has their fields.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from verl_care.algorithm.spans import answer_block
from verl_care.data.prompts import lettered
from verl_care.records.jsonl import COMPRESSED

SCHEMA = 1
NAME = "groups.jsonl"
ALL = -1
TAGS = ("domain", "scenario", "task_type", "duration", "source")
MEASURE = "consistency_"
"""What begins so in a response's `reward_extra_info` is a measure of its consistency."""

Record = dict[str, Any]


def start_record(step: int, run: str) -> Record:
    """The line of a start: groups of later steps that stand before it are void."""
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {"schema": SCHEMA, "kind": "start", "step": step, "time": now, "run": run}


def place(folder: Path, compress: bool = True) -> Path:
    """The file of a run: the one that is there, whatever it was begun as, so that a run has one."""
    plain, packed = folder / NAME, folder / (NAME + COMPRESSED)
    if plain.exists() != packed.exists():
        return plain if plain.exists() else packed
    return packed if compress else plain


def valid(records: Iterable[Record]) -> list[Record]:
    """The groups that count: of a step that was trained again after a resumption, those of the last time."""
    groups: list[Record] = []
    for record in records:
        if record.get("kind") == "start":
            groups = [group for group in groups if not _is_later(group, record)]
        elif record.get("kind") == "group":
            groups.append(record)
    return groups


def _is_later(group: Record, start: Record) -> bool:
    step, last = group.get("step"), start.get("step")
    return isinstance(step, int) and isinstance(last, int) and step > last  # others are damaged, and void nothing


def choose(questions: Mapping[str, str], count: int) -> list[str]:
    """The prompts of a step that are written: always the same questions, whenever they come up.

    Those whose names have the smallest hashes. So a question that was chosen once is chosen in later epochs too, in a
    resumed run, and in other runs on the same data, unless better ones are in its batch; and nothing has to be
    remembered.

    Args:
        questions: uid of the prompt -> name of its question.
        count: how many; `ALL` for all.
    """
    ranked = sorted(questions, key=lambda uid: (_rank(questions[uid]), uid))
    return ranked if count == ALL else ranked[:count]


def _rank(name: str) -> bytes:
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def question_record(row: Mapping[str, Any], frame_times: Sequence[Sequence[float] | None] | None) -> Record:
    """What is said of a prompt.

    Args:
        row: a row of the data as verl hands it on: `raw_prompt`, `data_source`, `reward_model`, `extra_info`.
        frame_times: of each clip, in seconds from the beginning of its file; None where the rollout does not know.
    """
    info = row.get("extra_info") or {}
    options = info.get("options")
    options = () if options is None else options
    parts = [part for message in row["raw_prompt"] if message.get("role") == "user" for part in _parts(message)]
    videos = [part for part in parts if part.get("type") == "video"]
    times = frame_times if frame_times is not None and len(frame_times) == len(videos) else [None] * len(videos)
    return {
        "data_source": str(row.get("data_source", "")),
        "id": str(info.get("id") or ""),
        "problem_type": str(info.get("problem_type") or ""),
        "prompt": "".join(str(part.get("text", "")) for part in parts if part.get("type") == "text"),
        "question": _text(info.get("question")),
        "options": list(lettered([str(option) for option in options])),
        "ground_truth": str((row.get("reward_model") or {}).get("ground_truth", "")),
        "tags": {name: str(info[name]) for name in TAGS if info.get(name) is not None},
        "videos": [_video(part, seen) for part, seen in zip(videos, times, strict=True)],
        "images": [_path(part.get("image")) for part in parts if part.get("type") == "image"],
    }


def response_record(
    text: str,
    *,
    length: int,
    finish: Literal["stop", "length"] | None,
    graded: Mapping[str, Any],
    numbers: Mapping[str, float],
    selected: bool,
    answer_tokens: Sequence[tuple[str, float | None]],
) -> Record:
    """What is said of a response.

    Args:
        text: as it was graded, without special tokens.
        length: in tokens.
        graded: its `reward_extra_info`.
        numbers: `likelihood`, `bonus`, `reward` and `advantage`; NaN where there is none.
        answer_tokens: text and log-probability under the reference; none for a response without an answer.
    """
    return {
        "text": text,
        "length": length,
        "finish": finish,
        "accuracy": number(graded["accuracy"]),
        "format": number(graded["format"]),
        **{name: number(value) for name, value in numbers.items()},
        "selected": selected,
        "answer": answer_place(text) if answer_tokens else None,
        "answer_tokens": [{"text": token, "log_prob": number(value)} for token, value in answer_tokens],
        "measures": {
            name.removeprefix(MEASURE): number(value) for name, value in graded.items() if name.startswith(MEASURE)
        },
    }


def answer_place(text: str) -> dict[str, int] | None:
    """Characters [start, stop) of the answer that was graded, without the white space around it; None without one."""
    block = answer_block(text)
    if block is None:
        return None
    content = text[slice(*block)]
    start = block[0] + len(content) - len(content.lstrip())
    stop = start + len(content.strip())
    return {"start": start, "stop": stop} if stop > start else None


def number(value: Any) -> float | None:
    """As JSON has it; null for NaN, infinity and what is no number."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _parts(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    content = message.get("content")
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content or ())


def _video(part: Mapping[str, Any], frame_times: Sequence[float] | None) -> Record:
    bounds = {name: number(part.get(name)) for name in ("video_start", "video_end", "raw_fps")}
    times = None if frame_times is None else [round(time, 4) for time in frame_times]
    return {"video": _path(part.get("video")), **bounds, "frame_times": times}


def _path(media: Any) -> str | list[str] | None:
    """A path, or the paths of a list of frames; null for pixels, which no record keeps."""
    if isinstance(media, str):
        return media
    if isinstance(media, list | tuple) and all(isinstance(frame, str) for frame in media):
        return list(media)
    return None


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
