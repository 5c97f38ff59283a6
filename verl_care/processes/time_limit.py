"""An end to waiting: in verl 0.9.1 an error in a vLLM worker never comes back to the trainer."""

from __future__ import annotations

import threading
from collections.abc import Callable


def within(seconds: float, what: str, call: Callable[[], None]) -> None:
    """Run a weight sync, and stop waiting for it after `seconds`.

    Raises:
        TimeoutError: naming `what`; the call goes on in a thread that does not keep the process alive.
        Exception: what `call` raised.
    """
    failure: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - raised again below, in the caller's thread
            failure.append(error)

    thread = threading.Thread(target=run, daemon=True, name=what)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(
            f"{what} has not returned for {seconds:.0f} s: most likely a rollout worker failed; its traceback is above."
            " For a slow network raise care.weight_sync_timeout_s"
        )
    if failure:
        raise failure[0]
