"""Sampled frames on disk, for the epochs to come: a folder of safetensors files that never outgrows its bound."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

logger = logging.getLogger(__name__)


class FrameStore:
    """Clips under keys, safe under several processes and machines that share the folder.

    A file appears whole or not at all. Before one is written, those longest unused go, under a lock: the folder is
    never above `capacity` bytes. A file that is damaged is removed, counted in `damaged`, and made anew by who asked.

    What the folder holds is noted in it, by whoever writes and before he does. Files that go without the lock (a
    damaged one, one deleted by hand) or were not finished leave the note too high, which only has the files counted
    sooner: when it reaches the bound, and at the first writing of each process, in case somebody put files there.
    """

    def __init__(self, folder: str | Path, capacity: int):
        self._folder, self._capacity = Path(folder).expanduser(), capacity
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock, self._note = FileLock(self._folder / ".lock"), self._folder / ".bytes"
        self._counted = False
        self.damaged = self.unwritten = 0
        self._said: set[str] = set()

    def get(self, key: str) -> tuple[torch.Tensor, dict[str, Any]] | None:
        """Frames and metadata, or None."""
        path = self._path(key)
        try:
            with safe_open(path, framework="pt") as file:
                notes, frames = file.metadata(), file.get_tensor("frames")
            if _digest(frames) != notes["digest"]:
                raise ValueError("its pixels are not those that were written")
            metadata = json.loads(notes["clip"])
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                self._say_once("read", error)  # too many open files, a server that is away: the file may be sound
            return None
        except (SafetensorError, RuntimeError, ValueError, KeyError, TypeError) as error:
            if not path.exists() or "No such file" in str(error):
                return None  # another process has made room while it was being opened
            self.damaged += 1
            logger.warning("%s is damaged (%s): made anew; %d so far", path, error, self.damaged)
            with suppress(OSError):  # a folder that cannot be written
                path.unlink()
            return None
        with suppress(OSError):  # another user's file, or a folder that cannot be written: its owner's use counts
            _touch(path)
        return frames, metadata

    def put(self, key: str, frames: torch.Tensor, metadata: dict[str, Any]) -> None:
        """Keep a clip, if it fits; a folder that cannot be written is said once, and does not stop a training."""
        notes = {"digest": _digest(frames), "clip": json.dumps(metadata)}
        content = save({"frames": frames.contiguous()}, metadata=notes)
        if len(content) > self._capacity:
            return  # and nothing has to go for it
        unfinished = self._folder / f"{uuid.uuid4().hex}.part"
        try:
            with self._lock:
                self._make_room(len(content))
                unfinished.write_bytes(content)
                _touch(unfinished)
                unfinished.replace(self._path(key))
        except OSError as error:
            self.unwritten += 1
            with suppress(OSError):
                unfinished.unlink()
            self._say_once("written", error)

    def _say_once(self, what: str, error: OSError) -> None:
        if what not in self._said:
            self._said.add(what)
            logger.warning("data.video.cache_dir=%s cannot be %s: %s", self._folder, what, error)

    def _make_room(self, wanted: int) -> None:
        held = self._noted() if self._counted else None
        if held is None or held + wanted > self._capacity:
            held, self._counted = self._counted_and_shrunk(wanted), True
        self._note.write_text(str(held + wanted))

    def _noted(self) -> int | None:
        """What the folder holds, in bytes; None where that is not known."""
        try:
            return int(self._note.read_text())
        except (FileNotFoundError, ValueError):  # none yet, or its writer was killed
            return None

    def _counted_and_shrunk(self, wanted: int) -> int:
        """What the folder holds, once there is room for `wanted` bytes more."""
        files = []
        for path in self._folder.iterdir():
            if path.suffix in (".safetensors", ".part"):  # the latter left by a process that was killed
                try:
                    status = path.stat()
                except FileNotFoundError:  # found damaged by another process
                    continue
                files.append((status.st_mtime_ns, status.st_size, path))
        held = sum(size for _, size, _ in files)
        if held + wanted <= self._capacity:
            return held
        most = self._capacity - self._capacity // 16 - wanted  # with a sixteenth to spare: not counted for each clip
        for _, size, path in sorted(files):
            if held <= most:
                break
            path.unlink(missing_ok=True)
            held -= size
        return held

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.safetensors"


def _touch(path: Path) -> None:
    """Used just now; the file system's own clock may tick only every few milliseconds."""
    os.utime(path, ns=(time.time_ns(), time.time_ns()))


def _digest(frames: torch.Tensor) -> str:
    return hashlib.blake2b(frames.contiguous().numpy().data, digest_size=16).hexdigest()
