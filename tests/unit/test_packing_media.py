"""A prompt's pixels go into TransferQueue once, however many responses it has; rows keep what is small."""

import asyncio
import types

import pytest
import torch
import transfer_queue as tq

from verl_care.packing import media

PIXELS = torch.ones(16, 4)  # 256 bytes


class Store:
    """The partitions of TransferQueue that media touch."""

    def __init__(self):
        self.stored, self.rows, self.puts = {}, {}, 0

    async def async_kv_put(self, key, partition_id, fields, tag):
        assert partition_id == media.PARTITION
        self.puts += 1
        self.stored[key] = (fields, tag)

    def kv_batch_get(self, keys, partition_id, select_fields):
        assert partition_id == media.PARTITION
        return torch.cat([self.stored[key][0] for key in keys])

    def kv_list(self, partition_id):
        keys = {key: tag for key, (_, tag) in self.stored.items()} if partition_id == media.PARTITION else self.rows
        return {partition_id: keys}

    def kv_clear(self, keys, partition_id):
        for key in keys:
            del self.stored[key]


@pytest.fixture
def store(monkeypatch):
    store = Store()
    for name in ("async_kv_put", "kv_batch_get", "kv_list", "kv_clear"):
        monkeypatch.setattr(tq, name, getattr(store, name))
    return store


def test_pixels_are_apart_from_what_is_small():
    grid = torch.tensor([[1, 4, 4]])
    pixels, small = media.divide({"pixel_values_videos": PIXELS, "video_grid_thw": grid, "pixel_values": PIXELS})
    assert set(pixels) == {"pixel_values_videos", "pixel_values"}
    assert small == {"video_grid_thw": grid}
    assert media.size_of(pixels) == 2 * 16 * 4 * 4


def test_rows_get_their_pixels_back(store):
    asyncio.run(media.store("a", {"pixel_values": PIXELS}))
    asyncio.run(media.store("b", {"pixel_values": 2 * PIXELS}))
    grid = torch.tensor([[1, 4, 4]])
    rows = [
        {"image_grid_thw": grid, media.STORED_UNDER: "b"},
        {},
        None,
        {"image_grid_thw": grid, media.STORED_UNDER: "a"},
        {"image_grid_thw": grid, "pixel_values": 3 * PIXELS},  # as verl's own worker leaves it
    ]
    first, empty, nothing, second, own = media.complete(rows)
    assert torch.equal(first["pixel_values"], 2 * PIXELS)
    assert torch.equal(second["pixel_values"], PIXELS)
    assert set(first) == {"pixel_values", "image_grid_thw"}
    assert (empty, nothing) == ({}, None)
    assert own is rows[4]


def test_a_finished_prompts_pixels_go_and_an_evicted_ones_too(store):
    for uid in ("finished", "evicted", "waiting"):
        asyncio.run(media.store(uid, {"pixel_values": PIXELS}))
    store.rows = {"finished_0_0": {}, "waiting": {}, "waiting_0_0": {}}
    assert media.clear(["finished"]) == 3 * 256
    assert set(store.stored) == {"waiting"}


@pytest.fixture
def worker(store, monkeypatch):
    """Our worker on a base that counts what the processor is asked and keeps the rows."""
    from verl_care.packing import rollouts

    base = rollouts.PackedAgentLoopWorker.__mro__[1]
    monkeypatch.setattr(base, "__init__", lambda self: setattr(self, "processed", 0) or setattr(self, "rows", []))

    def compute(self, output, input_ids):
        self.processed += 1
        return {"pixel_values": PIXELS, "image_grid_thw": torch.tensor([[1, 4, 4]]), "mm_token_type_ids": input_ids}

    async def postprocess(self, output, validate, **kwargs):
        inputs = self._compute_multi_modal_inputs(output, None)
        inputs.pop("mm_token_type_ids")  # verl does, and must not meet its own traces in the next row
        self.rows.append(inputs)

    async def run_prompt(self, prompt, sampling_params, trajectory, trace=False):
        output = types.SimpleNamespace(prompt_ids=[1, 2])
        calls = [
            self._agent_loop_postprocess(output, trajectory["validate"], uid=prompt["uid"], session_id=number)
            for number in range(8)
        ]
        await asyncio.gather(*map(asyncio.create_task, calls))

    monkeypatch.setattr(base, "_compute_multi_modal_inputs", compute, raising=False)
    monkeypatch.setattr(base, "_agent_loop_postprocess", postprocess)
    monkeypatch.setattr(base, "_run_prompt", run_prompt)
    return rollouts.PackedAgentLoopWorker()


def test_a_prompt_is_processed_and_stored_once(worker, store):
    asyncio.run(worker._run_prompt({"uid": "a"}, {}, {"validate": False}))
    assert (worker.processed, store.puts) == (1, 1)
    assert [set(row) for row in worker.rows] == [{"image_grid_thw", media.STORED_UNDER}] * 8
    assert torch.equal(media.complete(worker.rows[:1])[0]["pixel_values"], PIXELS)


@pytest.mark.parametrize("scored", [False, True])
def test_a_validated_prompts_pixels_are_stored_only_to_be_scored(worker, store, scored):
    worker._validation_is_scored = scored
    asyncio.run(worker._run_prompt({"uid": "a"}, {}, {"validate": True}))
    assert (worker.processed, store.puts) == (1, int(scored))
    assert [set(row) for row in worker.rows] == [{"image_grid_thw"} | ({media.STORED_UNDER} if scored else set())] * 8
