"""Open mathematics: what counts as equal, and hostile text in bounded time."""

from __future__ import annotations

import logging
import os
import signal
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from verl_care.processes.helper import HelperNotStarted, HelperProcess
from verl_care.rewards import math_answer
from verl_care.rewards.grading import grade
from verl_care.rewards.math_answer import as_latex, is_mathematics


def answered(text: str) -> str:
    return f"<think>so</think><answer>{text}</answer>"


@pytest.mark.parametrize(
    ("answer", "truth", "expected"),
    [
        ("0.5", r"\frac{1}{2}", 1.0),
        ("1/2", "0.5", 1.0),
        (r"$\frac12$", "0.5", 1.0),
        (r"\boxed{7}", "7", 1.0),
        ("1,250", "1250", 1.0),
        ("45.", "45", 1.0),
        (r"2\sqrt{3}", r"\sqrt{12}", 1.0),  # sqrt(4 * 3)
        (r"x^2+2x+1", "(x+1)^2", 1.0),
        ("x = 5", "5", 1.0),
        ("50%", "0.5", 1.0),
        (r"50\%", r"\frac{1}{2}", 1.0),
        ("60°", r"60^\circ", 1.0),
        ("12 cm", "12", 1.0),
        (r"\{2, 1\}", r"\{1, 2\}", 1.0),
        ("(2, 1)", "(1, 2)", 0.0),  # a pair has an order
        ("3.14", r"\pi", 0.0),
        ("0.333", r"\frac{1}{3}", 0.0),
        ("1/2", "2", 0.0),
        ("3 or 5", "5", 0.0),  # no reward for hedging
        ("$3$ or $5$", "5", 0.0),
        ("the answer is 5", "5", 0.0),  # the hint asks for nothing but the answer
        ("", "5", 0.0),
        ("5", "", 0.0),
        ("", "", 0.0),
        ("[no mathematics]", "[no mathematics]", 1.0),
    ],
)
def test_math(answer, truth, expected):
    assert grade("math", answered(answer), truth) == expected


def test_the_truth_may_carry_tags():
    assert grade("math", answered("0.25"), r"<answer> \frac{1}{4} </answer>") == 1.0


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("5", "$5$"),
        (" 5. ", "$5$"),
        ("50%", "$50$%"),
        (r"50\%", "$50$%"),
        ("60°", r"$60^\circ$"),
        ("$x$ cm", "$x$ cm"),
        (r"so \boxed{5}", r"so \boxed{5}"),
        (r"\(x\)", r"\(x\)"),
    ],
)
def test_what_math_verify_reads(text, latex):
    assert as_latex(text) == latex


@pytest.mark.parametrize(
    "truth",
    [
        *("5", "-3.5", "1/2", "x", "x = 5", "ab + 1", "x + y", "50%", "60°", "(1, 2)", "a^2 + b^2 = c^2", "1" * 500),
        *(r"\frac{1}{2}", r"2\pi", r"\sin x", r"$2\sqrt{3}$", r"\{1, 2\}", "12 cm", "5 units", "12 square units"),
    ],
)
def test_mathematics(truth):
    assert is_mathematics(truth)


@pytest.mark.parametrize(
    "truth",
    [
        *("", " ", "$", "yes", "No", "isosceles triangle", "two", "the answer is 5", "angle 3 and angle 5", "1" * 501),
        *(r"\text{isosceles triangle}", "angle 3", "AB = CD = EF 3", "triangle ABC has 3 sides", "\u4e09\u89d2"),
    ],
)
def test_what_is_no_mathematics_is_known_before_training(truth):
    assert not is_mathematics(truth)


def test_it_works_outside_the_main_thread():
    """math-verify's own time limits do not: they are signals."""
    found = []
    threads = [threading.Thread(target=lambda: found.append(grade("math", answered("0.2"), "1/5"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [1.0] * 4


HOSTILE = {
    "a megabyte": "1" * 1_000_000,
    "a megabyte of braces": "{" * 1_000_000,
    "braces": "{" * 60,
    "parentheses": "(" * 60 + "1" + ")" * 59,
    "roots": r"\sqrt{" * 30 + "x" + "}" * 30,
    "fractions": r"\frac{1}{" * 50 + "1" + "}" * 50,
    "subscripts": "a_{" * 40,
    "dollars": "$" * 500,
    "boxes": r"\boxed{" * 70,
    "alternatives": "$1$ or " * 70,
    "code": "__import__('os').abort()",
    "code between dollars": "$__import__('os').abort()$",
    "power of Python": "9**9**9**9",
    "surrogate": "\ud800",
    "null": "\x00",
    "new line": "5\n7",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_wrong(name):
    assert grade("math", answered(HOSTILE[name]), "5") == 0.0


@pytest.mark.parametrize("answer", [r"9^{9^{9^9}}", r"1000000000!", r"\prod_{n=1}^{99999999} n"])
def test_years_of_work_are_cut_short_and_counted(answer, monkeypatch, caplog):
    """The limit of a test is two minutes, and none of these ends in that time."""
    monkeypatch.setattr(math_answer, "_helper", HelperProcess("verl_care.rewards.math_worker", seconds=0.3))
    monkeypatch.setattr(math_answer, "_no_verdict", 0)
    math_answer._compared.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert grade("math", answered(answer), "5") == 0.0
    assert "taken as wrong (no answer in 0.3 s); 1 so far" in caplog.text


def test_after_a_helper_was_ended_the_next_answer_is_graded(monkeypatch):
    helper = HelperProcess("verl_care.rewards.math_worker", math_answer.SECONDS)
    monkeypatch.setattr(math_answer, "_helper", helper)
    math_answer._compared.cache_clear()
    assert grade("math", answered("0.5"), "1/2") == 1.0
    assert helper._process is not None
    os.kill(helper._process.pid, signal.SIGKILL)  # as the kernel does when memory runs out
    math_answer._compared.cache_clear()
    assert grade("math", answered("0.5"), "1/2") == 1.0


def test_without_math_verify_nothing_is_graded_as_wrong(monkeypatch):
    monkeypatch.setattr(math_answer, "_helper", HelperProcess("verl_care.rewards.no_such_module", 3))
    math_answer._compared.cache_clear()
    with pytest.raises(HelperNotStarted, match="No module named verl_care"):
        grade("math", answered("0.5"), "1/2")


LATEX = [r"\frac", r"\sqrt", r"\boxed", r"\{", *"{}()^_$19x=,+!%"]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from(LATEX), max_size=12).map("".join))
def test_any_latex_gets_0_or_1(text):
    assert grade("math", answered(text), r"\frac{9}{x}") in (0.0, 1.0)
