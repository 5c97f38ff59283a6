"""verl's client and router, real ones without Ray: a prompt's responses go to one server, prompts to all of them."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import OmegaConf
from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop
from verl.workers.rollout.llm_server import LLMServerClient
from verl.workers.rollout.router import GlobalRequestLoadBalancer

from verl_care.agent_loop import CareAgentLoop, SameServer

PROMPTS, RESPONSES, SERVERS = 4, 8, 4


class Servers:
    """Answer when all requests are there, so that a request finds those before it under way."""

    def __init__(self) -> None:
        self.prompts: dict[str, list[int]] = defaultdict(list)
        self.request_ids: list[str] = []
        self._all_there = asyncio.Event()

    def handle(self, name: str) -> SimpleNamespace:
        async def generate(request_id: str, prompt_ids: list[int], **_: Any) -> SimpleNamespace:
            self.prompts[name] += prompt_ids
            self.request_ids.append(request_id)
            if len(self.request_ids) == PROMPTS * RESPONSES:
                self._all_there.set()
            await self._all_there.wait()
            return SimpleNamespace(extra_fields={})

        return SimpleNamespace(generate=SimpleNamespace(remote=generate))


def client_of(servers: Servers) -> tuple[LLMServerClient, GlobalRequestLoadBalancer]:
    router = GlobalRequestLoadBalancer({name: servers.handle(name) for name in map(str, range(SERVERS))})

    def remote(name: str) -> SimpleNamespace:
        def call(**arguments: Any) -> asyncio.Future[Any]:
            answered = asyncio.get_running_loop().create_future()
            answered.set_result(getattr(router, name)(**arguments))
            return answered

        return SimpleNamespace(remote=call)

    names = ("acquire_server", "release_server", "require_acquire_fields", "require_release_fields")
    config = OmegaConf.create({"actor_rollout_ref": {"rollout": {"name": "vllm", "full_determinism": False}}})
    return LLMServerClient(config, SimpleNamespace(**{name: remote(name) for name in names})), router  # type: ignore[arg-type]


def sent(together: bool) -> tuple[Servers, GlobalRequestLoadBalancer]:
    async def run() -> tuple[Servers, GlobalRequestLoadBalancer]:
        servers = Servers()
        client, router = client_of(servers)
        requests = [
            (SameServer(client, f"prompt {prompt}") if together else client).generate(
                request_id=f"{prompt} {response}", prompt_ids=[prompt], sampling_params={}
            )
            for prompt in range(PROMPTS)
            for response in range(RESPONSES)
        ]
        await asyncio.gather(*requests)
        return servers, router

    return asyncio.run(run())


def test_a_prompt_is_read_by_one_server_and_each_server_has_its_share():
    servers, router = sent(together=True)
    assert sorted(servers.prompts.values()) == [[prompt] * RESPONSES for prompt in range(PROMPTS)]
    assert len(set(servers.request_ids)) == PROMPTS * RESPONSES  # vLLM refuses an id that is under way
    assert router.get_total_inflight() == 0


def test_verl_alone_has_every_prompt_read_by_all():
    servers, _ = sent(together=False)
    assert [sorted(set(prompts)) for prompts in servers.prompts.values()] == [list(range(PROMPTS))] * SERVERS


@pytest.mark.parametrize(
    ("rollout", "together"),
    [
        ({"full_determinism": False, "router_config_path": None}, True),
        ({"full_determinism": True, "router_config_path": None}, False),
        ({"full_determinism": False, "router_config_path": "mine.yaml"}, False),
    ],
)
def test_where_a_response_is_no_session_of_its_own(monkeypatch, rollout: dict[str, Any], together: bool):
    async def run(self: Any, sampling_params: dict[str, Any], **_: Any) -> SimpleNamespace:
        return SimpleNamespace(extra_fields={}, manager=self.server_manager)

    monkeypatch.setattr(SingleTurnAgentLoop, "run", run)
    loop = object.__new__(CareAgentLoop)
    loop.server_manager, loop.rollout_config = SimpleNamespace(), OmegaConf.create(rollout)
    output: Any = asyncio.run(loop.run({}, uid="a prompt"))
    assert isinstance(output.manager, SameServer) == together
