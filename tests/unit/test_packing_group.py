"""A group's responses make things once and are handed on together, whatever becomes of one of them."""

import asyncio
import types

import pytest
import torch
from tensordict import TensorDict
from verl.utils.tensordict_utils import list_of_dict_to_tensordict

from verl_care.packing import rollouts
from verl_care.packing.group import Group, current


class Refused(Exception):
    pass


async def settle(coroutines):
    return await asyncio.gather(*map(asyncio.create_task, coroutines), return_exceptions=True)


def test_a_thing_is_made_once_for_all_who_ask():
    made = []

    async def make():
        made.append("tokens")
        await asyncio.sleep(0)
        return made

    async def run():
        group = Group()
        results = await settle(group.once("prompt", make) for _ in range(8))
        assert all(result is made for result in results)
        assert await group.once("media", make) == ["tokens", "tokens"]  # another name is another thing

    asyncio.run(run())


def test_whoever_asks_gets_the_exception():
    async def make():
        await asyncio.sleep(0)
        raise Refused

    async def run():
        group = Group()
        results = await settle(group.once("prompt", make) for _ in range(3))
        assert [type(result) for result in results] == [Refused] * 3

    asyncio.run(run())


def test_one_that_is_cancelled_takes_it_from_no_other():
    async def make():
        await asyncio.sleep(0.01)
        return 7

    async def run():
        group = Group()
        first, second = (asyncio.create_task(group.once("prompt", make)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        assert await second == 7

    asyncio.run(run())


def hand_in(durations, hand_on, *, failing=()):
    """What becomes of responses that take so many turns of the event loop, and then are handed on together."""

    async def run():
        group = Group()

        async def response(number, duration):
            with group.response():
                for _ in range(duration):
                    await asyncio.sleep(0)
                if number in failing:
                    raise Refused
                await group.together(number, hand_on)
                return number

        return await settle(response(number, duration) for number, duration in enumerate(durations))

    return asyncio.run(asyncio.wait_for(run(), 10))


@pytest.mark.parametrize("durations", [(0,), (0, 0, 0), (1, 7, 3), (7, 0, 0)])
def test_all_are_handed_on_by_one_call(durations):
    calls = []

    async def hand_on(items):
        calls.append(sorted(items))

    assert hand_in(durations, hand_on) == list(range(len(durations)))
    assert calls == [list(range(len(durations)))]


@pytest.mark.parametrize("durations", [(0, 5, 2), (5, 0, 2), (2, 2, 2)])
def test_nobody_waits_for_one_that_failed(durations):
    calls = []

    async def hand_on(items):
        calls.append(sorted(items))

    results = hand_in(durations, hand_on, failing={1})
    assert isinstance(results[1], Refused)
    assert (results[0], results[2]) == (0, 2)
    assert calls == [[0, 2]]


def test_where_all_fail_nothing_is_handed_on():
    calls = []
    hand_in((0, 3), calls.append, failing={0, 1})
    assert calls == []


def test_what_goes_wrong_on_the_way_out_is_told_to_all():
    async def hand_on(items):
        raise Refused

    assert [type(result) for result in hand_in((0, 2, 1), hand_on)] == [Refused] * 3


def row(number, length):
    return {
        "input_ids": torch.arange(length),
        "position_ids": torch.full((4, length), number),
        "rm_scores": torch.tensor(float(number)),
        "multi_modal_inputs": {"video_grid_thw": torch.tensor([[1, 4, number]])},
        "raw_prompt": [{"role": "user", "content": f"{number}"}],
        "extra_fields": None,
    }


def cells(fields: TensorDict) -> dict[str, list[str]]:
    """Every value, as text."""
    columns = fields.items()
    return {
        name: [repr(cell if isinstance(cell, torch.Tensor) else cell.data) for cell in col] for name, col in columns
    }


@pytest.mark.parametrize("lengths", [(3, 5, 4), (3, 3, 3), (2,)])
def test_rows_put_together_are_the_rows_that_verl_makes(monkeypatch, lengths):
    puts = []

    async def put(**arguments):
        puts.append(arguments)

    queue = rollouts.RowsTogether(types.SimpleNamespace(async_kv_batch_put=put, kv_list="another name of the module"))

    async def response(number, length):
        with rollouts._group().response():
            await queue.async_kv_batch_put(
                keys=[f"a_{number}_0"],
                fields=[row(number, length)],
                tags=[{"seq_len": length}],
                partition_id="train",
            )

    async def run():
        current.set(Group())
        return await settle(response(number, length) for number, length in enumerate(lengths))

    assert asyncio.run(run()) == [None] * len(lengths)
    (put,) = puts
    assert put["keys"] == [f"a_{number}_0" for number in range(len(lengths))]
    assert put["tags"] == [{"seq_len": length} for length in lengths]
    assert put["partition_id"] == "train"
    expected = list_of_dict_to_tensordict([row(number, length) for number, length in enumerate(lengths)])
    assert cells(put["fields"]) == cells(expected)
    assert {name: type(value) for name, value in put["fields"].items()} == {
        name: type(value) for name, value in expected.items()
    }
    assert queue.kv_list == "another name of the module"
