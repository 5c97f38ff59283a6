"""What a reader sees and can do: the reason of each bonus, the way through training, filters, links, keys."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.report.conftest import TELEPHONE
from tests.report.payloads import TEXT, group, payload, question, response, run

WRONG = {"accuracy": 0.0, "bonus": 0.0, "selected": False, "reward": 1.0, "advantage": -1.1, "likelihood": None}
REFUSED = {"likelihood": 0.62, "bonus": 0.0, "reward": 2.0, "advantage": 0.0}
CONFIG = {"care.bonus": "hard", "care.consistency_margin": 0, "care.confidence_upper_bound": 0.95}


def why(page) -> list[str]:
    return page.locator(".why").all_inner_texts()


def test_each_response_says_why_it_got_the_bonus_or_did_not(visit_payload):
    # the mean of min(0.99, 0.95), 0.90 and 0.62 is (0.95 + 0.90 + 0.62) / 3 = 0.8233
    group_ = group(
        [
            response(likelihood=0.99),
            response(likelihood=0.90),
            response(**REFUSED),
            response(**WRONG),
            response(selected=False, bonus=0.0, reward=2.0, likelihood=None, answer=None, answer_tokens=[]),
            response(**REFUSED | {"bonus": 0.5}),
            response(accuracy=0.4, selected=False, bonus=0.0),
        ],
        threshold=0.8233,
    )
    # mean accuracy: (5 x 1.0 + 0.4 + 0.0) / 7 = 0.77
    page = visit_payload(payload([group_], runs=[run(config=CONFIG)]), "#/groups")
    page.locator("select[aria-label='Order of the responses']").select_option("sampled")
    assert why(page) == [
        "Right (1.0), and likelihood 0.99, counted as the cap 0.95, reaches the group’s threshold 0.82 − margin 0: "
        "0.5 × 1.0 = 0.50.",
        "Right (1.0), and likelihood 0.90 reaches the group’s threshold 0.82 − margin 0: 0.5 × 1.0 = 0.50.",
        "Right (1.0), but likelihood 0.62 is below the group’s threshold 0.82 − margin 0.",
        "Wrong (0.0): only responses with an accuracy above 0.1 are compared.",
        "Right (1.0), but it has no closed answer whose likelihood could be compared.",
        "Right (1.0); likelihood 0.62 is below the group’s threshold 0.82 − margin 0, "
        "yet the record has a bonus of 0.50.",
        "Partly right (0.4), below the group’s mean accuracy 0.77: not compared.",
    ]


@pytest.mark.parametrize(
    ("config", "changes", "said"),
    [
        ({"care.bonus": "none"}, {"bonus": 0.0}, "Right (1.0): this run gives no bonus (care.bonus is none)."),
        (
            {"care.bonus": "dense"},
            {"bonus": 0.45},  # 0.5 x 1.0 x 0.9
            "Right (1.0): the dense bonus is 0.5 × accuracy 1.0 × likelihood 0.90 = 0.45.",
        ),
        (
            {"care.bonus": "refgen"},
            {"bonus": 0.5},
            "Right (1.0): the bonus is 0.5 × accuracy of the answer that the reference gave itself = 0.50.",
        ),
        ({"care.bonus": "new"}, {}, "Bonus 0.50; the page does not know care.bonus new."),
        ({}, {"bonus": None}, "Graded only, no bonus was computed. Right (1.0)."),
        # a likelihood that two digits do not tell from the threshold 0.8: three do
        (
            {},
            {"likelihood": 0.798, "bonus": 0.0},
            "Right (1.0), but likelihood 0.798 is below the group’s threshold 0.800 − margin 0.",
        ),
    ],
)  # fmt: skip
def test_the_reason_of_other_methods(visit_payload, config, changes, said):
    page = visit_payload(payload([group([response(**changes), response()])], runs=[run(config=config)]), "#/groups")
    assert said in why(page)


def test_only_one_selected_is_its_own_threshold(visit_payload):
    page = visit_payload(payload([group([response(likelihood=0.4), response(**WRONG)], threshold=0.4)]), "#/groups")
    assert (
        why(page)[0]
        == "Right (1.0), and the only one selected, so its likelihood 0.40 is the threshold: 0.5 × 1.0 = 0.50."
    )


def test_the_answer_is_marked_where_it_stands_also_behind_characters_of_two_units(visit_payload):
    text = "🙂🙂" + TEXT  # Python counts each as one character, JavaScript as two
    at = text.index("B</answer")
    page = visit_payload(payload([group([response(text=text, answer={"start": at, "stop": at + 1})])]), "#/groups")
    assert page.locator(".passage .answer").all_inner_texts() == [">B"]
    assert page.locator(".passage").text_content() == text
    assert page.locator(".tokens").inner_text().split() == ["Answer’s", "tokens", ">B", "0.90"]  # exp(-0.105) = 0.900


def test_a_slider_follows_a_question_through_training_and_back_returns(visit_payload):
    groups = [group([response(), response(**WRONG)], step=step) for step in (1, 5, 9)]
    page = visit_payload(payload(groups), "#/groups")
    page.locator("#trail-slider").fill("2")
    expect(page.locator(".group-title h2")).to_have_text("Step 9")
    page.locator(".trail-step").nth(1).click()
    expect(page.locator(".group-title h2")).to_have_text("Step 5")
    page.go_back()
    page.get_by_role("heading", name="Step 9").wait_for()


def test_the_finder_filters_sorts_searches_and_its_address_brings_it_back(visit_payload):
    contradicting = {"measures": {"contradiction": 0.0, "judge-m-v1": 0.0}}
    groups = [
        group([response(), response(**contradicting), response(**REFUSED, **contradicting)]),
        group([response(**WRONG, text="burnt"), response(**WRONG, finish="length", format=0.0)], step=2, question=1),
    ]
    page = visit_payload(payload(groups, questions=[question(), question(1, question="What was fried?")]), "#/finder")

    def expect_found(text: str) -> None:
        expect(page.locator(".found")).to_have_text(text)

    def chip(name: str) -> None:
        page.locator(f"[data-id={name}]").click()

    expect_found("5 of 5 responses")
    chip("contradiction")
    expect_found("2 of 5 responses")
    chip("bonus")
    expect_found("1 of 5 responses")
    address = page.url
    chip("contradiction")
    expect_found("2 of 5 responses")
    page.go_back()
    page.locator("[data-id=contradiction][aria-pressed=true]").wait_for()
    expect_found("1 of 5 responses")
    assert page.url == address
    page.get_by_role("button", name="clear all").click()
    for name, count in {"judge": 1, "refused": 1, "all-wrong": 2, "all-right": 3, "cut": 1, "no-format": 1}.items():
        chip(name)
        expect_found(f"{count} of 5 responses")
        chip(name)
    page.locator(".finder-search").fill("FRIED")
    expect_found("2 of 5 responses")
    page.locator(".finder-search").fill("")
    expect_found("5 of 5 responses")
    page.locator("select[aria-label=sort]").select_option("likelihood")
    page.locator(".step-button:visible", has_text="↓").wait_for()
    assert page.locator(".cell.is-likelihood").all_inner_texts() == ["0.90", "0.90", "0.62", "–", "–"]
    page.locator(".found-row").nth(2).click()
    page.locator("#response-3.is-linked").wait_for()
    assert "is below the group’s threshold" in page.locator("#response-3 .why").inner_text()


def test_a_filter_without_its_measure_counts_nothing_rather_than_none(visit_payload):
    page = visit_payload(payload([group([response(measures={"judge-m-v1": 1.0})])]), "#/finder")
    assert page.locator("[data-id=contradiction] .chip-count").inner_text() == "–"
    assert page.locator("[data-id=judge] .chip-count").inner_text() == "0"


def test_keys(visit_payload):
    groups = [group([response()], step=step) for step in range(1, 4)]
    page = visit_payload(payload(groups))
    press = page.keyboard.press
    press("2")
    press("j")
    page.get_by_role("heading", name="Step 2").wait_for()
    press("ArrowRight")
    page.get_by_role("heading", name="Step 3").wait_for()
    press("k")
    page.get_by_role("heading", name="Step 2").wait_for()
    press("?")
    assert page.locator("dialog.help").is_visible()
    press("Escape")
    assert not page.locator("dialog.help").is_visible()
    press("/")
    page.locator(".finder-search:focus").wait_for()
    press("j")
    assert page.locator(".finder-search").input_value() == "j"
    press("Backspace")
    press("Escape")
    press("j")
    press("j")
    page.locator(".virtual-row:nth-child(2) a:focus").wait_for()
    press("Enter")
    page.get_by_role("heading", name="Step 2").wait_for()


def test_the_focus_stays_on_what_is_drawn_anew(visit_payload):
    groups = [group([response()], step=step) for step in range(1, 4)]
    page = visit_payload(payload(groups), "#/groups")
    page.get_by_role("button", name="Next group").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".group-title h2")).to_have_text("Step 2")
    page.keyboard.press("Enter")
    expect(page.locator(".group-title h2")).to_have_text("Step 3")
    page.locator("nav a").nth(0).focus()
    page.keyboard.press("Enter")
    page.locator("nav a[aria-current]:focus", has_text="Overview").wait_for()
    page.locator(".legend-run").focus()
    page.keyboard.press("Enter")
    page.locator(".legend-run[aria-pressed=false]:focus").wait_for()
    page.keyboard.press("Enter")
    page.locator(".legend-run[aria-pressed=true]:focus").wait_for()


def test_overview_shows_what_changed_and_what_differs_between_runs(visit_payload):
    def validation(before: float, after: float):
        return [
            {"step": s, "dataset": "kitchen", "questions": 256, "values": {"accuracy": a}}
            for s, a in ((0, before), (9, after))
        ]

    runs = [
        run("care", config={"care.bonus": "hard", "lr": 1e-6}, validation=validation(0.457, 0.969)),
        run("grpo", config={"care.bonus": "none", "lr": 1e-6}, validation=validation(0.457, 0.4)),
    ]
    published = [{"metric": "accuracy", "dataset": "kitchen", "method": "CARE", "value": 0.57}]
    page = visit_payload(payload([group([response()])], runs=runs, published=published))
    assert page.locator(".results td").all_inner_texts()[:3] == [
        "0.457 → 0.969 +0.512",
        "0.457 → 0.400 −0.057",
        "CARE 0.570",
    ]
    assert page.locator(".config tbody th").all_inner_texts() == ["care.bonus"]
    page.get_by_label("only differences").uncheck()
    assert page.locator(".config tbody th").all_inner_texts() == ["care.bonus", "lr"]
    assert page.locator(".reference-label").all_text_contents() == ["CARE 0.570"]
    chart = page.locator(".chart", has_text="care/accuracy").locator(".plot-frame")
    chart.focus()
    page.keyboard.press("ArrowLeft")
    assert page.locator(".readout:visible").inner_text().split()[:4] == ["step", "2", "care", "0.563"]
    # smoothing 0.6: (0.6 x 0.4 x 0.25 + 0.4 x 0.75) / (1 - 0.36) = 0.36 / 0.64 = 0.5625
    assert page.locator(".chart", has_text="care/accuracy").locator(".chart-last span").count() == 2
    page.get_by_role("button", name="grpo").click()
    assert page.locator(".chart", has_text="care/accuracy").locator(".chart-last span").count() == 1


def test_a_long_list_holds_few_rows(visit_payload):
    page = visit_payload(
        payload([group([response() for _ in range(8)], step=step) for step in range(250)]), "#/finder", TELEPHONE
    )
    assert page.locator(".found").inner_text() == "2,000 of 2,000 responses"
    assert page.locator(".found-row").count() < 40
    page.locator(".finder-list").evaluate("list => { list.scrollTop = list.scrollHeight }")
    page.locator(".virtual-row[aria-posinset='2000']").wait_for()
    assert page.locator(".found-row").count() < 40


def test_a_page_without_anything_says_so(visit_payload):
    page = visit_payload(payload([], runs=[run(metrics={}, config={})], images=[], questions=[]))
    for text in ("No validation yet", "Nothing is logged yet", "No configuration was recorded"):
        assert page.get_by_text(text).is_visible()
    page.keyboard.press("2")
    page.get_by_text("No groups were recorded").wait_for()
    page.keyboard.press("3")
    page.get_by_text("No responses were recorded").wait_for()


def test_a_link_to_a_group_that_is_not_here_says_so(visit_payload):
    page = visit_payload(payload([group([response()])]), "#/groups?run=other&step=7&q=kitchen%2F0")
    assert page.get_by_text("The group of this link is not on this page").is_visible()


def test_colours_can_be_chosen(visit_payload):
    page = visit_payload(payload([group([response()])]))
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.locator(".theme").click()
    page.locator(".theme").click()
    assert page.locator(".theme").get_attribute("title") == "Colours: dark"
    assert page.evaluate(background) != light
