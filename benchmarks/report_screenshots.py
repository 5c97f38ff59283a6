"""The pictures of the report's page in docs/: each view of a run, light or dark, as a reader sees it first.

    python -m benchmarks.report_screenshots RUN [RUN ...] [--out docs]

They are written as PNG with a palette, which keeps each below 300 KB. Needs Debian's chromium, or another one.
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from verl_care.report import collect, page

SIZE = {"width": 1280, "height": 1000}
VIEWS = {  # place in the page, colours
    "overview": ("#/overview", "light"),
    "groups": ("#/groups", "light"),
    "finder": ("#/finder?f=refused&sort=gap&rising=1", "dark"),  # right answers that their reasoning does not bear out
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--out", type=Path, default=Path("docs"))
    arguments = parser.parse_args()
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        print("no chromium: apt-get install chromium", file=sys.stderr)
        return 2

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        file = Path(folder) / "report.html"
        page.write(collect.collect(arguments.runs), file)
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for view, (place, scheme) in VIEWS.items():
            context = browser.new_context(viewport=SIZE, color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
            tab = context.new_page()
            tab.goto(file.as_uri() + place)
            tab.locator(".view:visible").wait_for()
            tab.wait_for_timeout(1000)  # charts are drawn, and pictures decoded, after the view stands
            path = arguments.out / f"report-{view}.png"
            shot = Image.open(io.BytesIO(tab.screenshot())).convert("RGB")
            shot.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
            print(f"{path} ({path.stat().st_size / 1000:.0f} KB)")
            context.close()
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
