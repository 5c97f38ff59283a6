"""A headless Chromium for the tests of the page, and pages that any trouble in them fails."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from verl_care.report import page as report_page
from verl_care.report.payload import Payload

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DESKTOP, TELEPHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}

OpenPage = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Not for the whole session: while Playwright's is there, no other event loop can run in this process."""
    if CHROMIUM is None:
        pytest.skip("no chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[OpenPage]:
    """visit(address, viewport=...): a page; the test fails if it logged, threw, asked or fetched anything."""
    troubles: list[str] = []
    contexts = []

    def open_page(address: str, viewport: dict[str, int] = DESKTOP, allowed: str = "file:") -> Page:
        context = browser.new_context(viewport=viewport)  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: troubles.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (troubles.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: _foreign(request.url, allowed) and troubles.append(f"fetch: {request.url}"))
        page.goto(address)
        page.locator(".view:visible").wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not troubles


def _foreign(url: str, allowed: str) -> bool:
    return not url.startswith((allowed, "data:", "blob:"))


@pytest.fixture
def visit_payload(visit: OpenPage, tmp_path: Path) -> OpenPage:
    """visit_payload(payload, "#/groups", viewport=...): the page of a payload, from a file."""

    def open_payload(payload: Payload, place: str = "", viewport: dict[str, int] = DESKTOP) -> Page:
        path = tmp_path / "report.html"
        report_page.write(payload, path)
        return visit(path.as_uri() + place, viewport)

    return open_payload
