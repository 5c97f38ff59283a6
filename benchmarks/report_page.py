"""How soon the report's page is there, and how soon a filter, with many responses, in headless Chromium.

    python -m benchmarks.report_page [--responses N] [--repeats R] [--out FILE]

The page is made up (benchmarks/report_payload.py). First paint is the browser's own `first-contentful-paint`, counted
from the beginning of the navigation; drawn is when the first view stands there with its data. A filter is the time from
a click, or from the last key of a search, to the frame that shows the result (a search waits 60 ms for the next key
first, which is in the figure); of each the median and the slowest are printed.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks import report_payload
from verl_care.report import page

GROUP = 8
STEPS = 500
PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"

# Resolves with the milliseconds until the frame after the one that shows another number of responses.
FILTER = """
act => new Promise(resolve => {
  const found = document.querySelector(".found");
  const begun = performance.now();
  new MutationObserver((_, observer) => {
    observer.disconnect();
    requestAnimationFrame(() => setTimeout(() => resolve(performance.now() - begun)));
  }).observe(found, { childList: true });
  if (act.chip) document.querySelector(`[data-id="${act.chip}"]`).click();
  if (act.sort) {
    const select = document.querySelector("select[aria-label='sort']");
    select.value = act.sort;
    select.dispatchEvent(new Event("change"));
  }
  if (act.text != null) {
    const field = document.querySelector(".finder-search");
    field.value = act.text;
    field.dispatchEvent(new Event("input"));
  }
})
"""
ACTS = [
    *({"chip": chip} for chip in ("contradiction", "bonus", "contradiction", "bonus", "judge", "judge", "all-wrong")),
    {"chip": "all-wrong"},
    {"sort": "likelihood"},
    {"sort": "length"},
    {"text": "stove"},
    {"text": "stir the pan"},
    {"text": "no such words"},
    {"text": ""},
]
NAMES = {"chip": "finder: filter", "sort": "finder: sort", "text": "finder: search"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--responses", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, help="keep the page here")
    arguments = parser.parse_args()
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        print("no chromium: apt-get install chromium", file=sys.stderr)
        return 2

    groups = arguments.responses // GROUP
    payload = report_payload.make(groups=groups, size=GROUP, runs=2, steps=STEPS, questions=200)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = (arguments.out or Path(folder) / "report.html").absolute()
        size = page.write(payload, path)
        print(f"{groups * GROUP:,} responses in {groups:,} groups, {size / 1e6:.1f} MB")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for view in ("overview", "groups", "finder"):
            paints, drawn = zip(
                *(opened(browser, f"{path.as_uri()}#/{view}") for _ in range(arguments.repeats)), strict=True
            )
            show(f"{view}: first paint", paints)
            show(f"{view}: drawn", drawn)
        opening = browser.new_page()
        opening.goto(f"{path.as_uri()}#/finder")
        opening.locator(".found-row").first.wait_for()
        times = [(act, taken(opening, act)) for _ in range(arguments.repeats) for act in ACTS]
        for kind in ("chip", "sort", "text"):
            show(NAMES[kind], [time for act, time in times if kind in act])
        browser.close()
    return 0


def opened(browser: Browser, address: str) -> tuple[float, float]:
    """Milliseconds to the first paint, and to the first view."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    tab = context.new_page()
    tab.add_init_script("""
      new MutationObserver((_, observer) => {
        if (!document.querySelector(".view")) return;
        observer.disconnect();
        requestAnimationFrame(() => setTimeout(() => (window.drawn = performance.now())));
      }).observe(document, { childList: true, subtree: true });
    """)
    tab.goto(address)
    tab.locator(".view:visible").wait_for()
    tab.wait_for_timeout(100)
    times = tab.evaluate(f"[{PAINT}, window.drawn]")
    context.close()
    return times[0], times[1]


def taken(tab: Page, act: dict[str, str]) -> float:
    return tab.evaluate(FILTER, act)


def show(what: str, milliseconds: Sequence[float]) -> None:
    print(f"{what:<24} {statistics.median(milliseconds):6.0f} ms, slowest {max(milliseconds):.0f} ms")


if __name__ == "__main__":
    sys.exit(main())
