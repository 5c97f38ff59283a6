"""A prompt's tokens, made once for a group and for each response without one."""

import asyncio

import pytest
from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop

from verl_care.agent_loop import CareAgentLoop
from verl_care.packing.group import Group, current

FEATURES = {"pixel_values_videos": "the pixels", "video_grid_thw": "the grid"}


@pytest.fixture
def built(monkeypatch):
    """The calls of verl's builder, which answers with tokens and, where it is asked to, with features."""
    calls = []

    async def build(self, messages, tools=None, images=None, videos=None, audios=None, mm_inputs_out=None):
        calls.append((messages, videos))
        await asyncio.sleep(0)
        mm_inputs_out.update(FEATURES)
        return [1, 2, 3]

    monkeypatch.setattr(SingleTurnAgentLoop, "ct_build_initial_tokens", build)
    return calls


def tokens_of(responses, *, group):
    async def response():
        loop, features = object.__new__(CareAgentLoop), {}
        tokens = await loop.ct_build_initial_tokens(["a question"], videos=["a clip"], mm_inputs_out=features)
        assert features == FEATURES
        tokens.append("of one response alone")
        return tokens

    async def run():
        current.set(group)
        return await asyncio.gather(*(asyncio.create_task(response()) for _ in range(responses)))

    return asyncio.run(run())


def test_a_group_builds_them_once(built):
    assert tokens_of(8, group=Group()) == [[1, 2, 3, "of one response alone"]] * 8
    assert built == [(["a question"], ["a clip"])]


def test_another_group_builds_its_own(built):
    for _ in range(2):
        tokens_of(2, group=Group())
    assert len(built) == 2


def test_without_a_group_each_response_builds_its_own(built):
    assert tokens_of(3, group=None) == [[1, 2, 3, "of one response alone"]] * 3
    assert len(built) == 3
