"""The live page: a server on the loopback address that gives out the page, what is new in its data, and nothing else.

    GET /            the page
    GET /updates     what differs from the version that `If-None-Match` names; 304 where nothing does

It opens no file that a request names. A request is refused unless its one Host header is this server's own, so that a
foreign site cannot reach it through a name that it lets resolve to 127.0.0.1 (DNS rebinding), and unless it comes from
this page or from an address typed in.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import takewhile
from typing import Any, Protocol

from verl_care.report import page
from verl_care.report.payload import Payload

ADDRESS = "127.0.0.1"
PORT = 8414
LISTS = ("images", "questions", "groups")  # that grow at their end while a run goes on
READ_AGAIN_S = 1.0
TIMEOUT_S = 10.0

HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Source(Protocol):
    """What reads the runs: `collect.Collector`, made with `live`."""

    def update(self) -> bool:
        """Whether there is something new."""
        ...

    def payload(self) -> Payload: ...


class Followed:
    """The newest payload of some runs, and how much of its lists each earlier version of it has already."""

    def __init__(self, source: Source):
        self._source = source
        self._lock = threading.Lock()
        self._session = uuid.uuid4().hex  # a page of an earlier server has versions of its own
        self._payload, self._looked = source.payload(), time.monotonic()
        self._shared: list[dict[str, int]] = []  # by version: items that it and the newest one begin with

    def page(self) -> str:
        with self._lock:
            self._read_again()
            return page.render(self._payload, self._version())

    def updates(self, version: str | None) -> tuple[str, dict[str, Any] | None]:
        """(the newest version, what a page of `version` lacks). None: it lacks nothing.

        Of each list in `LISTS`: how many of its first items still hold, and those that follow. The rest is whole.
        """
        with self._lock:
            self._read_again()
            newest = self._version()
            if version == newest:
                return newest, None
            shared = self._shared_with(version)
            changes: dict[str, Any] = {name: value for name, value in self._payload.items() if name not in LISTS}
            for name in LISTS:
                changes[name] = {"keep": shared[name], "add": self._payload[name][shared[name] :]}
            return newest, changes

    def _version(self) -> str:
        return f"{self._session}-{len(self._shared)}"

    def _shared_with(self, version: str | None) -> dict[str, int]:
        session, _, number = (version or "").rpartition("-")
        if session == self._session and number.isascii() and number.isdigit() and int(number) < len(self._shared):
            return self._shared[int(number)]
        return dict.fromkeys(LISTS, 0)

    def _read_again(self) -> None:
        if time.monotonic() - self._looked < READ_AGAIN_S:
            return
        if self._source.update():
            payload = self._source.payload()
            shared = {name: common_start(self._payload[name], payload[name]) for name in LISTS}
            earlier = [{name: min(old[name], shared[name]) for name in LISTS} for old in self._shared]
            self._payload, self._shared = payload, [*earlier, shared]
        self._looked = time.monotonic()


def common_start(before: Sequence[Any], after: Sequence[Any]) -> int:
    """How many items two lists begin with in common."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, after, strict=False)))


class Server(ThreadingHTTPServer):
    """Raises OSError where the port is taken."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, followed: Followed, port: int):
        super().__init__((ADDRESS, port), Handler)
        self.followed = followed
        self.names = {f"{name}:{self.server_port}" for name in (ADDRESS, "localhost")}

    @property
    def url(self) -> str:
        return f"http://{ADDRESS}:{self.server_port}/"


class Handler(BaseHTTPRequestHandler):
    server: Server  # type: ignore[reportIncompatibleVariableOverride]
    server_version, sys_version = "verl_care", ""
    timeout = TIMEOUT_S
    error_message_format, error_content_type = "%(code)d %(message)s\n", "text/plain; charset=utf-8"

    def do_GET(self) -> None:  # the only method there is: http.server answers 501 to every other
        refusal = self._refusal()
        if refusal:
            self.send_error(*refusal)
        elif self.path == "/":
            self._send(HTTPStatus.OK, "text/html; charset=utf-8", self._read(self.server.followed.page))
        elif self.path == "/updates":
            self._send_updates()
        else:
            self.send_error(HTTPStatus.NOT_FOUND, "there is the page at / and nothing else")

    def _refusal(self) -> tuple[HTTPStatus, str] | None:
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1 or hosts[0].strip().lower() not in self.server.names:
            return HTTPStatus.FORBIDDEN, f"the Host of a request must be {self.server.url}"
        origins = self.headers.get_all("Origin") or []
        if any(origin.removeprefix("http://") not in self.server.names for origin in origins):
            return HTTPStatus.FORBIDDEN, "requests of other sites are refused"
        if self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            return HTTPStatus.FORBIDDEN, "requests of other sites are refused"
        return None

    def _send_updates(self) -> None:
        known = self.headers.get("If-None-Match", "").strip().strip('"')
        found = self._read(lambda: self.server.followed.updates(known or None))
        if found is None:
            return
        version, changes = found
        if changes is None:
            self._send(HTTPStatus.NOT_MODIFIED, None, "", version)
        else:
            self._send(HTTPStatus.OK, "application/json", page.as_json(changes), version)

    def _read(self, read: Callable[[], Any]) -> Any:
        """None, and an answer that says why, where a run cannot be read just now."""
        try:
            return read()
        except (OSError, ValueError) as error:
            self.log_error("%s", error)
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, "the run cannot be read; the server's terminal says why")

    def _send(self, status: HTTPStatus, kind: str | None, text: str | None, version: str | None = None) -> None:
        if text is None:
            return
        data = text.encode()
        self.send_response(status)
        if kind:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
        if version:
            self.send_header("ETag", f'"{version}"')
        self.end_headers()
        self.wfile.write(data)

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        """A page asks every two seconds: only what is refused is worth a line."""


def serve(source: Source, port: int) -> None:
    """Serve until interrupted.

    Raises:
        OSError: the port is taken, or a run cannot be read.
    """
    with Server(Followed(source), port) as server:
        print(f"live at {server.url} (Ctrl-C ends it)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()
