"""The file of the page: nothing outside it, nothing in it that the data can end, and all of it or nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
from html.parser import HTMLParser

import pytest

from tests.report.payloads import group, payload, response
from verl_care.report import page


class Elements(HTMLParser):
    """(tag, attributes, text) of each element, in their order."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict, str]] = [("", {}, "")]
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs), ""))

    def handle_data(self, data):
        tag, attributes, text = self.found[-1]
        self.found[-1] = (tag, attributes, text + data)

    def handle_endtag(self, tag):
        self.found.append(("", {}, ""))

    def all(self, tag):
        return [one for one in self.found if one[0] == tag]


def policy_of(elements: Elements) -> dict[str, str]:
    content = next(a["content"] for _, a, _ in elements.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    return dict(rule.split(" ", 1) for rule in content.split("; "))


def test_script_and_style_are_the_ones_that_the_policy_names():
    elements = Elements(page.render(payload([group([response()])])))
    policy = policy_of(elements)
    (_, data, _), (_, _, script) = elements.all("script")
    assert data["type"] == "application/json"
    for rule, text in (("script-src", script), ("style-src", elements.all("style")[0][2])):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert policy[rule] == f"'sha256-{digest}'"
    assert policy["default-src"] == policy["connect-src"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert policy["img-src"] == "data:"


def test_only_a_live_page_may_ask_and_only_its_own_server():
    elements = Elements(page.render(payload([], live=True), "v-1"))
    assert policy_of(elements)["connect-src"] == "'self'"
    assert elements.all("script")[0][1]["data-version"] == "v-1"


def test_data_come_back_as_they_were_and_end_no_element():
    texts = ["</script>", "<!--<script>", "\u2028\u2029", "\ud800", "{{style}}", "\\", '"', "é🙂"]
    made = payload([group([response(text=text) for text in texts])], title='</title><script>"')
    text = page.render(made)
    block = re.search(r'<script type="application/json"[^>]*>([^<]*)</script>', text)
    assert block is not None
    assert block[1].isascii()
    assert json.loads(block[1]) == made
    assert text.count("<script") == 2
    assert text.count("</title>") == 1


def test_a_number_that_is_none_is_refused():
    with pytest.raises(ValueError, match="JSON"):
        page.render(payload([group([response(likelihood=float("nan"))])]))


def test_the_file_is_there_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "report.html"
    size = page.write(payload([]), path)
    assert size == path.stat().st_size > 10_000
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        page.write(payload([group([response(bonus=float("inf"))])]), path)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]


def test_no_script_makes_markup_of_a_string_or_evaluates_one():
    forbidden = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|Function\(|srcdoc|https?://(?!www\.w3\.org)"
    )
    for path in page.ASSETS.glob("*.js"):
        code = "\n".join(line for line in path.read_text().splitlines() if not line.lstrip().startswith("//"))
        assert not forbidden.search(code), path.name


@pytest.mark.parametrize("name", page.SCRIPTS)
def test_a_script_imports_what_stands_before_it_and_exists(name):
    text = (page.ASSETS / f"{name}.js").read_text()
    before = page.SCRIPTS[: page.SCRIPTS.index(name)]
    for names, source in re.findall(r'^import \{ ([^}]*) \} from "\./(\w+)\.js";$', text, re.MULTILINE):
        assert source in before
        exported = set(
            re.findall(
                r"^export (?:async )?(?:function|const|class) (\w+)",
                (page.ASSETS / f"{source}.js").read_text(),
                re.MULTILINE,
            )
        )
        assert set(names.split(", ")) <= exported
        for used in names.split(", "):
            assert len(re.findall(rf"\b{used}\b", text)) > 1, f"{used} is imported and not used"
    assert len(re.findall(r"^import", text, re.MULTILINE)) == len(
        re.findall(r'^import \{ .* \} from "\./\w+\.js";$', text, re.MULTILINE)
    )


def test_every_asset_is_in_the_page_and_short():
    files = {path.name for path in page.ASSETS.iterdir()}
    assert files == {f"{n}.js" for n in page.SCRIPTS} | {f"{n}.css" for n in page.STYLES} | {"page.html"}
    for path in page.ASSETS.iterdir():
        assert len(path.read_text().splitlines()) < 300, path.name


def test_scripts_are_syntactically_whole(tmp_path):
    from playwright._impl._driver import compute_driver_executable

    node = compute_driver_executable()[0]  # comes with playwright, browser or not
    for path in page.ASSETS.glob("*.js"):
        module = tmp_path / f"{path.stem}.mjs"
        module.write_bytes(path.read_bytes())
        checked = subprocess.run([node, "--check", module], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr
