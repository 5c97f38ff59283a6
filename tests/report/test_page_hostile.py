"""Whatever a model writes is text on the page: it does not run, does not break the layout and does not hide."""

from __future__ import annotations

import pytest

from tests.report.conftest import DESKTOP, TELEPHONE
from tests.report.payloads import group, payload, question, response, run

MARKUP = "<img src=x onerror=alert(1)><b id=planted>bold</b><a href='javascript:alert(2)'>x</a>"
TEXTS = {
    "markup": (MARKUP, MARKUP),
    "script": ("<script>alert(3)</script>", "<script>alert(3)</script>"),
    "end of script": ("</script><script>alert(4)</script>", "</script><script>alert(4)</script>"),
    "comment": ("<!-- <script> a --> <![CDATA[ ]]>", "<!-- <script> a --> <![CDATA[ ]]>"),
    "template": ("{{payload}} ${alert(5)} {{style}}", "{{payload}} ${alert(5)} {{style}}"),
    "bidi": ("a\u202eb\u2066c\u200fd", "a‹U+202E›b‹U+2066›c‹U+200F›d"),
    "unseen": ("a\x00b\x1b[31mc\u200bd\ufeffe\u2028f", "a‹U+0000›b‹U+001B›[31mc‹U+200B›d‹U+FEFF›e‹U+2028›f"),
    "surrogates": ("a\ud800b\udfffc 🙂", "a‹U+D800›b‹U+DFFF›c 🙂"),
    "stacked": ("a" + "\u0301" * 40 + "b", "a\u0301\u0301‹+38 combining›b"),
    "names": ("__proto__ constructor toString", "__proto__ constructor toString"),
}


def everywhere(texts: list[str]):
    """A page on which every string that a file or a model may write is one of these: a run and a group for each."""
    runs, questions, groups = [], [], []
    for n, text in enumerate(texts):
        whole = response(text=text, answer=None, answer_tokens=[{"text": text, "log_prob": -1.0}], measures={text: 0.0})
        inside = response(text=f"{text}{text}", answer={"start": len(text), "stop": 2 * len(text)})
        validation = [
            {"step": s, "dataset": text, "questions": 1, "values": {"accuracy": 0.5, text: 0.5}} for s in (0, 1)
        ]
        logged = {text: {"steps": [1], "values": [1.0]}}
        runs.append(run(text, config={text: text}, metrics=logged, validation=validation))
        questions.append(
            question(
                key=text, data_source=text, id=text, problem_type=text, question=text, prompt=text, truth=text,
                options=[text, "A. b"], tags={text: text}, clips=[{"path": text, "frames": [], "reason": text}],
                images=[{"path": text, "image": None, "reason": text}],
            )
        )  # fmt: skip
        groups.append(group([whole, inside], run=n, question=n))
    published = [{"metric": "accuracy", "dataset": text, "method": text, "value": 0.5} for text in texts]
    return payload(
        groups,
        title=texts[0],
        made=texts[0],
        runs=runs,
        questions=questions,
        notes=texts,
        published=published,
        images=texts,
    )


@pytest.mark.parametrize("viewport", [DESKTOP, TELEPHONE], ids=["1280", "390"])
def test_stands_there_as_text(visit_payload, viewport):
    texts = [text for text, _ in TEXTS.values()]
    page = visit_payload(everywhere(texts), "#/overview", viewport)

    def check(view):
        page.locator(f".{view}:visible").wait_for()
        assert page.locator("#planted").count() == 0
        assert page.locator("script").count() == 1  # the page's own; its data are taken out once read
        assert page.evaluate("document.documentElement.scrollWidth") == viewport["width"]

    check("overview")
    for name, (_, shown) in TEXTS.items():
        for place in (".results", ".config", ".legend", ".notes"):
            assert shown in page.locator(place).text_content(), (name, place)
    page.locator("nav a").nth(1).click()
    for name, (_, shown) in TEXTS.items():
        check("groups")
        for place in (".question", ".media", ".group-facts", ".run-name", ".measures"):
            assert shown in page.locator(place).first.text_content(), (name, place)
        assert page.locator(".passage").all_text_contents() == [shown, shown * 2], name
        page.keyboard.press("j")
    page.locator("nav a").nth(2).click()
    check("finder")
    page.locator(".finder-list").evaluate("list => { list.style.flex = 'none'; list.style.height = '5000px' }")
    page.locator(".found-row").nth(19).wait_for()  # two of each group
    found = page.locator(".found-row").all_text_contents()
    for name, (_, shown) in TEXTS.items():
        assert any(shown in row for row in found), name


def test_a_megabyte_of_one_character_is_folded_and_unfolds(visit_payload):
    page = visit_payload(payload([group([response(text="A" * 1_000_000, answer=None)])]), "#/groups", TELEPHONE)
    passage = page.locator(".passage")
    # 1,500 at its beginning and 500 at its end
    assert passage.locator(".fold").inner_text() == "… 998,000 characters folded: show all 1,000,000"
    assert passage.text_content().count("A") == 2000
    passage.locator(".fold").click()
    assert passage.text_content().count("A") == 1_000_000
    assert page.evaluate("document.documentElement.scrollWidth") == TELEPHONE["width"]
    passage.locator(".fold").click()
    assert passage.text_content().count("A") == 2000


def test_a_megabyte_of_tags_marks_or_answers_opens_no_flood(visit_payload):
    texts = ["<think>" * 150_000, "\u202e" * 300_000, "\u0301" * 1_000_000, "a\u202e" * 200_000]
    page = visit_payload(payload([group([response(text=text, answer=None) for text in texts])]), "#/groups")
    for fold in page.locator(".fold").all():
        fold.click()
    assert page.evaluate("document.querySelectorAll('.passage *').length") < 400
    assert page.evaluate("document.documentElement.scrollWidth") == DESKTOP["width"]


def test_text_of_another_direction_does_not_turn_what_is_around_it(visit_payload):
    page = visit_payload(payload([group([response(text="\u05d0\u05d1\u05d2 12", answer=None)])]), "#/groups")
    isolated = "nodes => nodes.every(node => getComputedStyle(node).unicodeBidi.includes('isolate'))"
    assert page.locator("bdi").evaluate_all(isolated)
    number, verdict = page.locator(".response-number").bounding_box(), page.locator(".verdict").bounding_box()
    assert number["x"] < verdict["x"]


def test_a_picture_that_is_none_is_not_asked_for(visit_payload):
    hostile = ["https://example.org/a.png", "javascript:alert(1)", "data:text/html,<script>alert(1)</script>"]
    clip = {"path": "a", "frames": [{"image": i, "time": 0.5} for i in range(4)], "reason": None}
    made = payload([group([response()])], images=hostile, questions=[question(clips=[clip])])
    page = visit_payload(made, "#/groups")
    assert page.locator(".frame img").count() == 0
    assert page.locator(".no-picture").count() == 4  # the fourth names a picture that is not there


def test_the_policy_stops_a_script_that_got_in_anyway(browser, visit_payload, tmp_path):
    visit_payload(payload([group([response()])]))
    text = (tmp_path / "report.html").read_text()
    (tmp_path / "broken.html").write_text(
        text.replace("<main", "<script>window.ran = 1</script><img src=x onerror='ran = 1'><main")
    )
    page = browser.new_page()
    page.goto((tmp_path / "broken.html").as_uri())
    page.locator(".view:visible").wait_for()
    assert page.evaluate("window.ran") is None
    page.close()
