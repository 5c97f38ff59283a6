"""A prompt's pixels, stored once for all its responses.

verl puts what the processor made of a prompt's clips and images into every response's row. Here the row keeps what is
small (grids, seconds) and `STORED_UNDER`; the pixels are in TransferQueue under the prompt's uid, in a partition of
their own, since every key of verl's own partitions counts as a response there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from verl_care.records.row_keys import prompt_of

PARTITION = "care_media"
STORED_UNDER = "stored_under"
"""In a row's `multi_modal_inputs`: the key of its pixels."""
_FIELD = "multi_modal_inputs"


def divide(inputs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the processor made of a prompt's media: the pixels, and all that is small."""
    pixels = {name: value for name, value in inputs.items() if name.startswith("pixel_values")}
    return pixels, {name: value for name, value in inputs.items() if name not in pixels}


def size_of(pixels: dict[str, Any]) -> int:
    """Bytes."""
    return sum(value.numel() * value.element_size() for value in pixels.values())


async def store(uid: str, pixels: dict[str, Any]) -> None:
    """Put a prompt's pixels into TransferQueue, with their size as a tag."""
    import transfer_queue as tq
    from tensordict import TensorDict
    from verl.utils import tensordict_utils as tu

    fields = TensorDict({}, batch_size=[1])
    tu.assign_non_tensor_stack(fields, _FIELD, [pixels])
    await tq.async_kv_put(key=uid, partition_id=PARTITION, fields=fields, tag={"bytes": size_of(pixels)})


def complete(rows: Sequence[dict[str, Any] | None]) -> list[dict[str, Any] | None]:
    """Rows of `multi_modal_inputs` with the pixels that are stored elsewhere."""
    keys = [row[STORED_UNDER] for row in rows if row and STORED_UNDER in row]
    if not keys:
        return list(rows)
    import transfer_queue as tq
    from verl.utils import tensordict_utils as tu

    unique = list(dict.fromkeys(keys))
    found = tu.get(tq.kv_batch_get(keys=unique, partition_id=PARTITION, select_fields=[_FIELD]), _FIELD)
    pixels = dict(zip(unique, found, strict=True))
    return [_completed(row, pixels) for row in rows]


def _completed(row: dict[str, Any] | None, pixels: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    if not row or STORED_UNDER not in row:
        return row
    return pixels[row[STORED_UNDER]] | {name: value for name, value in row.items() if name != STORED_UNDER}


def clear(finished: Iterable[str]) -> int:
    """Remove the pixels of these prompts, and of all that have no row left (evicted or failed groups); the bytes."""
    import transfer_queue as tq

    stored = tq.kv_list(PARTITION).get(PARTITION, {})
    done, rows = set(finished), tq.kv_list("train").get("train", {})
    waiting = {prompt_of(key) for key in rows} - done
    gone = [key for key in stored if key not in waiting]
    if gone:
        tq.kv_clear(keys=gone, partition_id=PARTITION)
    return sum(tag["bytes"] for tag in stored.values())
