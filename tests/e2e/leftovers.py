"""What a run leaves on the machine."""

import os
import time

PATIENCE = 30  # seconds


def left_in_shared_memory(before: set[str]) -> set[str]:
    """Segments that were not there before and stay: the resource trackers of Python outlive for a moment the processes
    they clean up after."""
    deadline = time.monotonic() + PATIENCE
    while (left := set(os.listdir("/dev/shm")) - before) and time.monotonic() < deadline:
        time.sleep(0.2)
    return left
