"""A helper process (`verl_care.processes.helper`) that misbehaves when told so: `python -m tests.unit.hostile_helper`.

As a decoder for `data_prep.check_media` it does what the name of a file says.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from verl_care.processes.helper import serve


def answer(question: Any) -> Any:
    told = Path(question["path"]).stem if isinstance(question, dict) else str(question)
    if log := os.environ.get("HOSTILE_HELPER_LOG"):
        with open(log, "a", encoding="utf-8") as file:
            file.write(told + "\n")
    if told == "hang":
        ctypes.PyDLL(None).sleep(1000)  # in C, holding the GIL: no thread of this process can end it
    elif told == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif told == "exit":
        sys.exit(3)
    elif told == "raise":
        raise KeyError("what was not thought of")
    elif told == "eat":
        return len(bytearray(1 << 40))
    elif told == "print":
        print("[mov] a library's chatter")
        os.write(1, b"and more of it\n")
    elif told == "slow":
        time.sleep(0.2)
    elif told == "pid":
        return os.getpid()
    if isinstance(question, dict):
        return {"readable": True, "frames": 8, "seconds": 1.0, "width": 56, "height": 56, "why": None}
    return question


if __name__ == "__main__":
    serve(answer, memory_bytes=1 << 30)
