"""One HTML file of a payload: style, script and data are in it, and it fetches nothing.

Everything that a model or a data file wrote stands in a block of JSON, where no character of it can end the block
(`<` is written \\u003c), and the script shows it by `textContent` alone. A content-security policy in the file stands
behind both: the one script and the one style are named by their hashes, pictures are `data:` only, and there is no
other origin, and no form, frame or base address at all.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
from functools import cache
from pathlib import Path
from typing import Any

from verl_care.report.payload import Payload

ASSETS = Path(__file__).parent / "assets"

STYLES = ("tokens", "shell", "charts", "groups", "responses", "finder")
SCRIPTS = (  # each may import from those before it
    "text",
    "numbers",
    "dom",
    "store",
    "why",
    "router",
    "scale",
    "chart",
    "catalogue",
    "results",
    "config",
    "overview",
    "media",
    "passage",
    "response",
    "trail",
    "virtual",
    "groups",
    "filters",
    "finder",
    "keyboard",
    "live",
    "main",
)

# The files are modules, so that tools can check each; in the page each is a function that returns what it exports.
_IMPORT = re.compile(r'^import (\{[^\n]*\}) from "\./(\w+)\.js";$', re.MULTILINE)
_EXPORT = re.compile(r"^export ((?:async )?(?:function|const|class) (\w+))", re.MULTILINE)


def render(payload: Payload, version: str = "") -> str:
    """The page.

    Args:
        payload: see `payload.py`. With `live` the page asks its own server for what is new, at `/updates`.
        version: of the payload, which a live page names when it asks.

    Raises:
        ValueError: a number that is no JSON (NaN, infinity).
    """
    style, script = _style(), _script()
    values = {
        "policy": policy(style, script, payload["live"]),
        "title": html.escape(payload["title"].encode(errors="replace").decode()),
        "version": html.escape(version),
        "style": style,
        "script": script,
        "payload": as_json(payload),
    }
    page = (ASSETS / "page.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda found: values[found[1]], page)


def write(payload: Payload, path: Path) -> int:
    """Write the page, all of it or nothing; its size in bytes."""
    data = render(payload).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(data)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return len(data)


def as_json(value: Any) -> str:
    """ASCII, without `<`: nothing in it can end a script block or open a comment, and lone surrogates survive."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def policy(style: str, script: str, live: bool) -> str:
    """The content-security policy of a page with this style and this script."""
    rules = {
        "default-src": "'none'",
        "script-src": _hash(script),
        "style-src": _hash(style),
        "img-src": "data:",
        "connect-src": "'self'" if live else "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def _style() -> str:
    return "\n".join((ASSETS / f"{name}.css").read_text(encoding="utf-8") for name in STYLES)


@cache
def _script() -> str:
    return "\n".join(_module(name, (ASSETS / f"{name}.js").read_text(encoding="utf-8")) for name in SCRIPTS)


def _module(name: str, text: str) -> str:
    exports = ", ".join(found[2] for found in _EXPORT.finditer(text))
    body = _EXPORT.sub(r"\1", _IMPORT.sub(r"const \1 = module_\2;", text))
    return f"const module_{name} = (() => {{\n{body}\nreturn {{ {exports} }};\n}})();"
