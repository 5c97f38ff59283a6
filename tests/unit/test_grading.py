"""Expected numbers are worked by hand; the release's own regexes are the reference for tags."""

import re
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from verl_care.algorithm.spans import answer_block
from verl_care.rewards.grading import GRADERS, extract_answer, grade, has_format

TYPES = ["multiple choice", "numerical", "OCR", "free-form", "regression"]
PIECES = [
    "<think>",
    "</think>",
    "<answer>",
    "</answer>",
    "<answer",
    "answer>",
    "</",
    "<",
    ">",
    " ",
    "\n",
    "\u2003",
    "A",
]
tagged_text = st.lists(st.sampled_from(PIECES), max_size=14).map("".join)
MEGABYTE = 1_000_000


def answered(text: str) -> str:
    return f"<think>so</think><answer>{text}</answer>"


# Tags


@settings(max_examples=1000)
@given(st.one_of(tagged_text, tagged_text.map(lambda text: f"<think>{text}</answer>")))
def test_format_is_the_full_match_of_the_release(response):
    pattern = r"<think>.*?</think>\s*<answer>.*?</answer>"
    assert has_format(response) == (re.fullmatch(pattern, response, re.DOTALL) is not None)


@settings(max_examples=1000)
@given(tagged_text)
def test_answer_is_the_first_match_of_the_release(response):
    match = re.search(r"<answer>\s*(.*?)\s*</answer>", response, re.DOTALL)
    assert extract_answer(response) == (match.group(1).strip() if match else None)


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("<answer>A</answer>", "A"),
        ("<answer>\n A \n</answer>", "A"),
        ("<answer></answer>", ""),
        ("<answer>A", None),
        ("A</answer>", None),
        ("", None),
        ("<answer>A</answer><answer>B</answer>", "A"),
        ("<answer>A<answer>B</answer>", "A<answer>B"),
        ("</answer><answer>B</answer>", "B"),
    ],
)
def test_answer(response, answer):
    assert extract_answer(response) == answer


@pytest.mark.parametrize("tail", ["\n", " ", ".", "<|im_end|>"])
def test_format_covers_the_whole_response(tail):
    assert not has_format(answered("A") + tail)
    assert not has_format(tail + answered("A"))


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("<think></think><answer></answer>", True),
        ("<think></think> \n <answer>A</answer>", True),
        ("<think></think>so<answer>A</answer>", False),
        ("<think></think>so<answer>A</answer></think><answer>B</answer>", True),  # a lazy dot eats tags too
        ("<think><answer>A</answer>", False),
        ("<think></think><answer></answer", False),
    ],
)
def test_format(response, expected):
    assert has_format(response) == expected


# Accuracy by type


@pytest.mark.parametrize("truth", ["A", " A\n", "<answer>A</answer>", "<answer> A </answer>"])
def test_truth_may_carry_tags(truth):
    assert grade("multiple choice", answered("A"), truth) == 1.0
    assert grade("multiple choice", answered("B"), truth) == 0.0


@pytest.mark.parametrize(("answer", "expected"), [("C", 1.0), (" C\n", 1.0), ("c", 0.0), ("C.", 0.0), ("C) open", 0.0)])
def test_multiple_choice(answer, expected):
    assert grade("multiple choice", answered(answer), "C") == expected


@pytest.mark.parametrize(
    ("answer", "truth", "expected"),
    [
        ("3.14", "3.14", 1.0),
        ("3.141", "3.14", 1.0),  # 3.141 rounds to 3.14
        ("3.146", "3.14", 0.0),  # 3.146 rounds to 3.15
        ("3", "3.0", 0.0),  # only one has a decimal sign
        ("3", "3", 1.0),
        ("1,250", "1250.0", 1.0),  # a comma is a decimal sign to the rule, and then dropped
        ("1,250", "1250", 0.0),
        ("1e3", "1000", 1.0),
        ("-0", "0", 1.0),
        ("three", "3", 0.0),
        ("3 cm", "3", 0.0),
        ("inf", "inf", 0.0),
        ("nan", "nan", 0.0),
        ("1", "one", 0.0),
        ("", "1", 0.0),
    ],
)
def test_numerical(answer, truth, expected):
    assert grade("numerical", answered(answer), truth) == expected


@pytest.mark.parametrize(
    ("answer", "truth", "expected"),
    [
        ("8", "10", 0.8),  # 1 - 2/10
        ("12", "10", 0.8),
        ("-10", "10", 0.0),  # 20/10 = 2, clipped to 1
        ("1,000", "1250", 0.8),  # 1 - 250/1250
        ("0", "0", 0.0),  # 1 - 1e-9/1e-9, as in the release
        ("1e999", "10", 0.0),
        ("5", "inf", 0.0),  # the release: inf/inf is NaN, NaN is clipped to 0, the reward 1
        ("5", "nan", 0.0),
        ("ten", "10", 0.0),
        ("10", "ten", 0.0),
    ],
)
def test_regression(answer, truth, expected):
    assert grade("regression", answered(answer), truth) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize(
    ("answer", "truth", "expected"),
    [
        ("no parking here", "no parking here", 1.0),
        ("no smoking here", "no parking here", 2 / 3),  # one word of three replaced
        ("no here", "no parking here", 2 / 3),  # one of three left out
        ("no parking here today", "no parking here", 2 / 3),  # one added, over three words of truth
        ("x y", "a", 0.0),  # two edits over one word
        ("a b", "a", 0.0),  # n = 2m: one edit over one word
        ("NO", "no", 0.0),
        ("no\t\n parking", "no parking", 1.0),
        ("a\u2003b", "a b", 1.0),  # str.split takes any white space
        ("", "no parking", 0.0),
        ("", "", 1.0),
        ("no", "", 0.0),
    ],
)
def test_ocr(answer, truth, expected):
    assert grade("OCR", answered(answer), truth) == pytest.approx(expected)


def edit_distance(left: list[str], right: list[str]) -> int:
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        before, row = row, [i]
        for j, b in enumerate(right, 1):
            row.append(before[j - 1] if a == b else 1 + min(before[j - 1], before[j], row[-1]))
    return row[-1]


@given(*[st.text(st.sampled_from("ab\u00df \t\n\u00a0\u2003\x1c\x85"), max_size=24)] * 2)
def test_ocr_is_the_word_error_rate_over_str_split(answer, truth):
    words = truth.split()
    rate = edit_distance(words, answer.split()) / max(1, len(words))
    assert grade("OCR", answered(answer), truth) == pytest.approx(max(0.0, 1 - rate))


@pytest.mark.parametrize(
    ("answer", "truth", "expected"),
    [
        ("The man opens a drawer.", "the man opens a drawer", 1.0),
        ("the man opened a drawer", "the man opens a drawer", 1.0),  # opened and opens share the stem open
        # unigrams 2 of 3 and 3: F 2/3; bigrams 1 of 2 and 2: F 1/2; longest common subsequence 2: F 2/3
        ("open the door", "open the drawer", (2 / 3 + 1 / 2 + 2 / 3) / 3),
        # unigrams: P 2/2, R 2/2, F 1; bigrams 0; subsequence 1: F 1/2
        ("drawer open", "open drawer", (1 + 0 + 1 / 2) / 3),
        ("yes", "yes", 2 / 3),  # one word has no bigram: F 1, 0, 1
        ("", "yes", 0.0),
        ("yes", "", 0.0),
        ("", "", 0.0),
        ("\u4f60\u597d", "\u4f60\u597d", 0.0),  # ROUGE has words of a-z and 0-9 only
    ],
)
def test_free_form(answer, truth, expected):
    assert grade("free-form", answered(answer), truth) == pytest.approx(expected)


def test_free_form_of_many_words_is_exact_until_it_cannot_matter():
    truth = "open the drawer"
    for words, expected in [(2048, None), (2049, 0.0)]:
        answer = "drawer " * words
        rouge = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True).score(truth, answer)
        exact = sum(score.fmeasure for score in rouge.values()) / 3
        assert exact < 0.1
        assert grade("free-form", answered(answer), truth) == (exact if expected is None else expected)
    # 200 words of truth allow 19 * 200 = 3800 words of answer.
    assert grade("free-form", answered("drawer " * 3800), "drawer " * 200) > 0
    assert grade("free-form", answered("drawer " * 3801), "drawer " * 200) == 0


def test_unknown_type_names_the_known_ones():
    with pytest.raises(ValueError, match=r"'ocr'.*'multiple choice', 'numerical', 'OCR', 'free-form', 'regression'"):
        grade("ocr", answered("A"), "A")


def test_a_new_type_is_one_line(monkeypatch):
    monkeypatch.setitem(GRADERS, "parity", lambda answer, truth: float(len(answer) % 2 == len(truth) % 2))
    assert grade("parity", answered("abc"), "a") == 1.0


# Anything a model can write

HOSTILE = [
    "",
    "1e999",
    "-1e999",
    "nan",
    "--1",
    "1_0",
    "0x1",
    "\ud800",
    "\x00",
    "\u0661",
    "\U0001f600",
    "<answer>",
    "y" * 5000,
]


@pytest.mark.parametrize("problem_type", TYPES)
@pytest.mark.parametrize("truth", ["A", "1.5", "0", "", "\ud800", "the drawer"])
def test_hostile_answers_get_a_number(problem_type, truth):
    for answer in HOSTILE:
        for response in (answer, answered(answer)):
            assert 0.0 <= grade(problem_type, response, truth) <= 1.0
            assert isinstance(grade(problem_type, response, truth), float)


@given(st.sampled_from(TYPES), st.text(st.characters()), st.sampled_from(["A", "2", "1.5", "open the drawer", ""]))
def test_any_text_gets_a_number(problem_type, text, truth):
    assert 0.0 <= grade(problem_type, answered(text), truth) <= 1.0


LONG = {
    "open tags": "<answer>" * (MEGABYTE // 8),
    "close tags": "</answer>" * (MEGABYTE // 9),
    "think tags": "<think>" * (MEGABYTE // 7),
    "closed thoughts": "<think>" + "</think>" * (MEGABYTE // 8) + "</answer>",
    "closed thoughts apart": "<think>" + ("</think>" + " " * 92) * (MEGABYTE // 100) + "</answer>",
    "blanks": "<think></think>" + " " * MEGABYTE + "</answer>",
    "pairs": "<think>" + "</think><answer" * (MEGABYTE // 15) + "</answer>",
    "empty blocks": "<answer></answer>" * (MEGABYTE // 17),
    "a closed block of open tags": answered("<answer>" * (MEGABYTE // 8)),
    "words": answered("open the drawer " * (MEGABYTE // 16)),
    "letters": answered("a " * (MEGABYTE // 2)),
    "one word": answered("a" * MEGABYTE),
    "digits": answered("1" * MEGABYTE),
    "decimals": answered("0." + "1" * MEGABYTE),
    "commas": answered("," * MEGABYTE),
}


@pytest.mark.parametrize("name", LONG)
def test_a_megabyte_takes_linear_time(name):
    """Anything quadratic would be 10^12 steps here, far past the time limit of a test; benchmarks/ holds the times."""
    response = LONG[name]
    assert has_format(response) == name.startswith(
        ("a closed", "words", "letters", "one", "digits", "decimals", "commas")
    )
    assert (extract_answer(response) is None) == (answer_block(response) is None)
    for problem_type in TYPES:
        assert 0.0 <= grade(problem_type, response, "open the drawer and take the pan") <= 1.0


def test_import_is_light():
    heavy = "torch", "jiwer", "rouge_score", "nltk", "numpy", "verl", "ray"
    probe = f"import sys, verl_care.rewards.grading; print([name for name in {heavy!r} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", probe], text=True).strip() == "[]"
