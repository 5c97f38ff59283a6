"""An OpenAI-compatible server on this machine that judges as a test tells it to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from verl_care.evaluation.rows import Row


@dataclass
class Answer:
    """What goes over the wire; `body` is sent as it is if it is bytes."""

    body: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


def completion(text: str | None, finish: str = "stop", tokens: tuple[int, int] = (100, 10), **message: Any) -> Answer:
    """A chat completion with this text."""
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text, **message}}
    usage = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)}
    return Answer({"id": "1", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage})


def verdict(word: str, **more: Any) -> Answer:
    return completion(json.dumps({**more, "verdict": word}))


def refusal(status: int, message: str = "no", code: str | None = None, **headers: str) -> Answer:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer({"error": {"message": message, "code": code}}, status, names)


class FakeServer:
    """`with FakeServer(answer) as server`: `answer` gets the body of each request and returns an `Answer`."""

    def __init__(self, answer: Callable[[dict[str, Any]], Answer]):
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.busiest = 0
        self._busy = 0
        self._lock = threading.Lock()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with fake._lock:
                    fake.requests.append(body)
                    fake.keys.append(self.headers["Authorization"])
                    fake._busy += 1
                    fake.busiest = max(fake.busiest, fake._busy)
                try:
                    answer_ = answer(body)
                finally:
                    with fake._lock:
                        fake._busy -= 1
                content = answer_.body if isinstance(answer_.body, bytes) else json.dumps(answer_.body).encode()
                self.send_response(answer_.status)
                for name, value in {"Content-Type": "application/json", **answer_.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> FakeServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def data_of(request: dict[str, Any]) -> dict[str, Any]:
    """What a request gives to be judged."""
    return json.loads(request["messages"][-1]["content"])


def row(number: int, response: str | None = "<think>It is soup.</think><answer>A</answer>", **changes: Any) -> Row:
    fields: dict[str, Any] = {
        "dataset": "d/L1", "id": str(number), "sample": 0, "problem_type": "multiple choice",
        "ground_truth": "the-truth-itself", "question": f"What is served at table {number}?",
        "options": ("A. soup", "B. salad"), "response": response, "finish": "stop", "response_tokens": 12,
        "tags": {"domain": "the-domain-itself"},
    }  # fmt: skip
    return Row(**{**fields, **changes})


class Clock:
    """Sleeps without time; `chance` is the jitter."""

    def __init__(self, chance: float = 0.0):
        self.waits: list[float] = []
        self._chance = chance

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    def chance(self) -> float:
        return self._chance
