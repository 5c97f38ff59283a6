"""Which prompts failed, above all for want of their media: told by the rollout workers, counted by the trainer.

verl replaces a prompt whose rollout failed by the next one of the data (`sync_refill_failed_groups`). It neither says
why nor ever stops. The two sides are processes, often on several machines; a word passes through a partition of
TransferQueue, which both use anyway.
"""

from __future__ import annotations

import logging

from verl_care.data.decoders import MediaError

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

PARTITION = "care_media_failures"


async def report(uid: str, error: MediaError) -> None:
    """Say that the prompt `uid` has no media; said G times, it is one prompt all the same."""
    import transfer_queue as tq

    await tq.async_kv_put(key=uid, partition_id=PARTITION, tag={"reason": str(error)})


def take() -> list[str]:
    """What went wrong since the last call, a line for each prompt."""
    import transfer_queue as tq

    told = (tq.kv_list(PARTITION) or {}).get(PARTITION, {})
    if told:
        tq.kv_clear(keys=list(told), partition_id=PARTITION)
    return [tag["reason"] for tag in told.values()]


class FailedPrompts:
    """Kept by the trainer, from one step or validation to the next.

    Args:
        limit: this many failed prompts in one step are as many as a run lives with (`care.max_failed_prompts`).
    """

    def __init__(self, limit: int):
        self._limit, self._named = limit, set[str]()
        self.start("the start")

    def start(self, when: str) -> None:
        """Count anew."""
        self._when, self._failed, self._media = when, 0, 0

    def add(self, prompts: int) -> None:
        """So many prompts have failed, and verl asks for others.

        Raises:
            RuntimeError: beyond the limit; most likely no prompt can be rolled out.
        """
        self._failed += prompts
        self._read()
        if self._failed > self._limit:
            reasons = "; ".join(sorted(self._named)[:3]) or "the errors are in the log of the rollout workers, above"
            raise RuntimeError(
                f"{self._failed} prompts failed in {self._when}, and verl would replace them for ever: {reasons}."
                " If the data set moved, set data.train_files to where it is now; python -m data_prep.check_media names"
                " every file that cannot be used. If so many broken files are expected, raise care.max_failed_prompts"
            )

    def media_failures(self) -> float:
        """Prompts of this step whose media could not be used; each file is named once in the log."""
        self._read()
        return float(self._media)

    def _read(self) -> None:
        for reason in take():
            self._media += 1
            if reason not in self._named:
                self._named.add(reason)
                logger.warning("%s: a prompt was left out in %s", reason, self._when)
