"""The live page: it gives out what is new, and refuses everything that is not its own page asking."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.report.payloads import PIXEL, group, payload, question, response
from verl_care.report import serve


class Runs:
    """Stands for `collect.Collector`: what it has read is set by the test."""

    def __init__(self, made):
        self.made, self.read, self.fails = made, made, False

    def update(self) -> bool:
        if self.fails:
            raise ValueError("a line of /secret/groups.jsonl is no JSON")
        return self.made is not self.read

    def payload(self):
        self.read = self.made
        return self.read


def at_steps(*steps: int):
    return payload([group([response()], step=step) for step in steps], live=True)


@pytest.fixture
def runs() -> Runs:
    return Runs(at_steps(1))


@pytest.fixture
def server(runs, monkeypatch) -> Iterator[serve.Server]:
    monkeypatch.setattr(serve, "READ_AGAIN_S", 0.0)
    with serve.Server(serve.Followed(runs), 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(server: serve.Server, request: str) -> tuple[int, dict[str, str], bytes]:
    """(status, headers, body) of the answer to these very bytes; PORT in them is the server's."""
    with socket.create_connection((serve.ADDRESS, server.server_port), timeout=10) as connection:
        connection.sendall(request.replace("PORT", str(server.server_port)).encode("latin-1"))
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    return int(status.split()[1]), dict(line.split(": ", 1) for line in lines), body


def get(path: str, *headers: str, host: str = "127.0.0.1:PORT", method: str = "GET") -> str:
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}", *headers, "", ""])


def test_the_page_is_there_and_can_neither_be_framed_nor_kept(server):
    status, headers, body = ask(server, get("/"))
    assert status == 200
    assert body.startswith(b"<!doctype html>")
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "Access-Control-Allow-Origin" not in headers
    assert "Python" not in headers["Server"]


def test_it_listens_on_the_loopback_address_alone(server):
    assert server.socket.getsockname()[0] == "127.0.0.1"


@pytest.mark.parametrize("host", ["localhost:PORT", "127.0.0.1:PORT", "LOCALHOST:PORT"])
def test_its_own_names_are_answered(server, host):
    assert ask(server, get("/updates", host=host))[0] == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:PORT", "127.0.0.1", "127.0.0.1:1", "127.0.0.1.evil.example:PORT", "0.0.0.0:PORT", "",
     "127.0.0.1:PORT@evil.example", "[::1]:PORT", "127.0.0.1:PORT, evil.example"],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/", "/updates"])
def test_another_host_is_refused(server, host, path):
    assert ask(server, get(path, host=host))[0] == 403


def test_no_host_or_two_are_refused(server):
    assert ask(server, "GET / HTTP/1.1\r\n\r\n")[0] == 403
    assert ask(server, get("/", "Host: evil.example"))[0] == 403
    assert ask(server, get("/", "Host: 127.0.0.1:PORT"))[0] == 403


@pytest.mark.parametrize(
    "header",
    ["Origin: http://evil.example", "Origin: null", "Origin: https://127.0.0.1:PORT", "Sec-Fetch-Site: cross-site",
     "Sec-Fetch-Site: same-site"],
)  # fmt: skip
def test_another_site_is_refused(server, header):
    assert ask(server, get("/updates", header))[0] == 403


@pytest.mark.parametrize(
    "path",
    ["/../../etc/passwd", "/..%2f..%2fetc/passwd", "//etc/passwd", "/%2e%2e/", "/.", "/updates/", "/updates/../", "/?a",
     "/updates?x=1", "/index.html", "http://evil.example/", "/groups.jsonl", "/favicon.ico", "*",
     "/\x00", "/updates%00"],
)  # fmt: skip
def test_there_is_no_other_path(server, path):
    status, _, body = ask(server, get(path))
    assert status == 404
    assert len(body) < 100


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT", "PATCH", "get"])
def test_there_is_no_other_method(server, method):
    assert ask(server, get("/", method=method))[0] == 501


@pytest.mark.parametrize(
    "request_", ["\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\x00\xff\r\n\r\n", "GET / x y\r\n\r\n"]
)
def test_what_is_no_request_is_answered_without_the_page(server, request_):
    with socket.create_connection((serve.ADDRESS, server.server_port), timeout=10) as connection:
        connection.sendall(request_.encode("latin-1"))
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert b"<html" not in answer
    assert len(answer) < 1000


def test_endless_headers_are_refused(server):
    assert ask(server, get("/", *(f"X-{n}: 1" for n in range(200))))[0] == 431
    assert ask(server, get("/" + "a" * 70_000))[0] == 414


def test_updates_are_what_the_named_version_lacks(server, runs):
    status, headers, body = ask(server, get("/updates"))
    assert status == 200
    version = headers["ETag"]
    assert json.loads(body)["groups"] == {"keep": 0, "add": at_steps(1)["groups"]}
    assert ask(server, get("/updates", f"If-None-Match: {version}"))[::2] == (304, b"")

    runs.made = at_steps(1, 2)
    status, headers, body = ask(server, get("/updates", f"If-None-Match: {version}"))
    assert status == 200
    changes = json.loads(body)
    assert changes["groups"] == {"keep": 1, "add": at_steps(2)["groups"]}
    assert changes["images"] == {"keep": 1, "add": []}
    assert changes["runs"] == at_steps(1)["runs"]

    runs.made = at_steps(7, 2)  # resumed from before its first group: nothing of it holds
    ask(server, get("/updates", f"If-None-Match: {headers['ETag']}"))
    runs.made = at_steps(7, 2, 3)
    body = ask(server, get("/updates", f"If-None-Match: {version}"))[2]
    assert json.loads(body)["groups"] == {"keep": 0, "add": at_steps(7, 2, 3)["groups"]}


@pytest.mark.parametrize("version", ["other-0", "", '"', "x" * 5000, "-1", "--", "\xb2"])
def test_a_version_of_another_server_gets_everything(server, version):
    status, _, body = ask(server, get("/updates", f'If-None-Match: "{version}"'))
    assert status == 200
    assert json.loads(body)["groups"]["keep"] == 0


def test_a_run_that_cannot_be_read_is_said_without_its_path(server, runs):
    runs.fails = True
    status, _, body = ask(server, get("/updates"))
    assert status == 503
    assert b"secret" not in body
    runs.fails = False
    assert ask(server, get("/updates"))[0] == 200


def test_a_taken_port_says_what_to_do(server, capsys, tmp_path):
    from verl_care.report import __main__ as command

    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "data": {"care/accuracy": 0.5}}\n')
    assert command.main([str(tmp_path), "--serve", str(server.server_port)]) == 2
    assert "--serve 0 takes any free one" in capsys.readouterr().err


def test_the_page_follows_and_keeps_the_readers_place(visit, server, runs):
    runs.made = at_steps(*range(1, 41))
    page = visit(server.url + "#/groups?run=care&step=30&q=kitchen%2F0", allowed=server.url)
    expect(page.locator(".group-title h2")).to_have_text("Step 30")
    page.evaluate("window.passage = document.querySelector('.passage')")
    runs.made = at_steps(*range(1, 42))
    expect(page.locator(".side summary .muted")).to_have_text("41", timeout=15_000)
    expect(page.locator(".group-title h2")).to_have_text("Step 30")
    assert page.evaluate("window.passage.isConnected")  # not drawn anew: a selection or a fold in it stays
    assert page.locator(".trail-step").count() == 41
    expect(page.locator(".live")).to_have_text("live")


def test_new_pictures_and_questions_come_as_well(visit, server, runs):
    page = visit(server.url + "#/groups", allowed=server.url)
    clip = {"path": "b.mp4", "frames": [{"image": 1, "time": 1.5}], "reason": None}
    first = at_steps(1)
    runs.made = first | {
        "groups": [*first["groups"], group([response()], step=2, question=1)],
        "questions": [*first["questions"], question(1, question="And then?", clips=[clip])],
        "images": [PIXEL, PIXEL],
    }
    expect(page.locator(".side summary .muted")).to_have_text("2", timeout=15_000)
    page.keyboard.press("j")
    expect(page.locator(".question-text")).to_have_text("And then?")
    assert page.locator(".frame figcaption").inner_text() == "1.50 s"
