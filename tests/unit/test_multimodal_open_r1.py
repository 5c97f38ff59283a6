"""multimodal-open-r1: options told from open mathematics, images made files, and damage named."""

from __future__ import annotations

import hashlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from data_prep.common.fields import BadRow
from data_prep.common.reading import BadFile
from data_prep.common.schema import RL_SCHEMA
from data_prep.multimodal_open_r1 import convert, main
from data_prep.multimodal_open_r1_schema import IMAGE_PIXELS, check_row, letter_of, options_of
from tests.unit.converted import rejected_of, rows_of
from verl_care.rewards.grading import grade

LISTED = "How long is the side?\n\nChoices:\nA. 3\nB. 5 cm\nC. 8\nD. 13"
OPTIONS = ("3", "5 cm", "8", "13")
SCHEMA = pa.schema(
    [
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        *((name, pa.string()) for name in ("problem", "solution", "original_question", "original_answer")),
    ]
)


def picture(seed: int = 0, kind: str = "PNG", size: tuple[int, int] = (90, 120)) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)).save(file, kind)
    return file.getvalue()


PICTURE = picture()


def solved(answer: str) -> str:
    return f"<think>Let us see.</think>\n\n<answer>{answer}</answer>"


def row(problem: str = LISTED, answer: str = "B", image: bytes | None = PICTURE, **changes: Any) -> dict[str, Any]:
    whole = {"image": {"bytes": image, "path": None}, "problem": problem, "solution": solved(answer)}
    return whole | {"original_question": "How long?", "original_answer": "Answer: B"} | changes


def write(path: Path, *rows: dict[str, Any]) -> Path:
    pq.write_table(pa.Table.from_pylist(list(rows), schema=SCHEMA), path)
    return path


def test_a_multiple_choice_row_becomes_verls_row(tmp_path):
    convert([write(tmp_path / "a.parquet", row())], tmp_path / "out", style="plain")
    assert pq.read_schema(tmp_path / "out/training.parquet").equals(RL_SCHEMA)
    (made,) = rows_of(tmp_path / "out", "training")
    image = tmp_path / "out" / "images" / f"{hashlib.sha256(PICTURE).hexdigest()[:32]}.png"
    assert image.read_bytes() == PICTURE
    assert made["data_source"] == "multimodal_open_r1"
    assert made["prompt"] == [{"role": "user", "content": "<image>" + LISTED}]
    assert (made["videos"], made["images"]) == ([], [{"image": str(image)}])
    assert made["reward_model"]["ground_truth"] == "B"
    assert made["extra_info"]["problem_type"] == "multiple choice"
    assert made["extra_info"]["options"] == list(OPTIONS)


def test_an_open_row_is_graded_as_mathematics(tmp_path):
    convert([write(tmp_path / "a.parquet", row("How long?", r"\frac{1}{2}"))], tmp_path / "out")
    (made,) = rows_of(tmp_path / "out", "training")
    info = made["extra_info"]
    assert (info["problem_type"], info["options"]) == ("math", [])
    assert made["prompt"][0]["content"].endswith(r"number or formula (e.g., 42 or \frac{3}{4}) within the "
                                                 "<answer> </answer> tags.")  # fmt: skip
    assert grade("math", solved("0.5"), made["reward_model"]["ground_truth"]) == 1.0


@pytest.mark.parametrize(
    ("problem", "options"),
    [
        (LISTED, OPTIONS),
        (LISTED.replace(".", ":"), OPTIONS),
        (LISTED.replace(".", ")"), OPTIONS),
        ("Side? (A) 3 (B) 5 cm (C) 8 (D) 13", OPTIONS),
        ("Options: A. 3 B. 5 cm C. 8 D. 13\nThink first.", OPTIONS),
        ("Right?\nA. yes\nB. no", ("yes", "no")),
        ("How long is AB?", ()),
        ("Find A. Then stop.", ()),  # one letter is no list
        ("A:B is 3:4, what is A?", ()),
        ("B. first\nC. second", ()),  # no A
    ],
)
def test_options_are_found(problem, options):
    assert options_of(problem) == options


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        ("A. 3\nB. 5\nA. 7", "lists an option twice"),
        ("B. 5\nA. 3", "lists options out of order"),
        ("A. 3\nB. 3", "lists an option without a text of its own"),
        ("A. 3\nB. \n", "lists an option without a text of its own"),
    ],
)
def test_a_list_that_cannot_be_trusted(problem, reason):
    with pytest.raises(BadRow, match=reason):
        options_of(problem)


@pytest.mark.parametrize(
    ("answer", "letter"),
    [("B", "B"), ("B.", "B"), ("(B)", "B"), ("B) 5 cm", "B"), ("B: 5 cm", "B"), ("5 cm", "B"), ("13", "D")],
)
def test_the_letter_of_an_answer(answer, letter):
    assert letter_of(answer, OPTIONS) == letter


@pytest.mark.parametrize("answer", ["E", "b", "B. 8", "B or C", "AB", "5", "none"])
def test_an_answer_that_is_not_among_the_options(answer):
    with pytest.raises(BadRow, match="answer is not among the options"):
        letter_of(answer, OPTIONS)


def huge_header() -> bytes:
    """A PNG of 9,000 x 9,000 pixels, all black: 80 kB."""
    file = io.BytesIO()
    Image.new("L", (9_000, 9_000)).save(file, "PNG")
    return file.getvalue()


DAMAGE = {
    "no image": (row(image=None), "image", "must hold the bytes of an image"),
    "empty image": (row(image=b""), "image", "must hold the bytes of an image"),
    "null image": (row() | {"image": None}, "image", "must hold the bytes of an image"),
    "text as image": (row(image=b"no image"), "image", "cannot be decoded"),
    "truncated image": (row(image=PICTURE[:900]), "image", "cannot be decoded"),
    "strip": (row(image=picture(size=(1, 300))), "image", "cannot be decoded"),
    "TIFF": (row(image=picture(kind="TIFF")), "image", "cannot be decoded"),
    "null problem": (row() | {"problem": None}, "problem", "must be a text"),
    "empty problem": (row(" "), "problem", "must not be empty"),
    "media mark": (row("<image>How?", "3"), "problem", "contains the media mark <image>"),
    "special token": (row("<|im_end|>", "3"), "problem", "contains a special token"),
    "null solution": (row() | {"solution": None}, "solution", "must be a text"),
    "no tags": (row() | {"solution": "B"}, "solution", "must be <think>...</think><answer>...</answer>"),
    "no thought": (row() | {"solution": "<answer>B</answer>"}, "solution", "must be <think>"),
    "empty answer": (row(answer=" "), "solution", "must be <think>"),
    "two answers": (row() | {"solution": solved("A") + solved("B")}, "solution", "must be <think>"),
    "answer of no option": (row(answer="E"), "solution", "answer is not among the options"),
    "letter without options": (row("How?", "B"), "solution", "answer is a letter, but the problem lists no options"),
    "(letter) without options": (row("How?", "(B)"), "solution", "answer is a letter"),
    "letters without options": (row("Which?", "STU"), "solution", "answer is neither an option nor mathematics"),
    "prose": (row("What kind?", "isosceles"), "solution", "answer is neither an option nor mathematics"),
    "long prose": (row("Why?", "because 2 sides are equal here"), "solution", "answer is neither"),
    "too long": (row("How many?", "1" * 501), "solution", "answer is neither"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_row_is_named_and_nothing_else_is_lost(tmp_path, name):
    bad, field, reason = DAMAGE[name]
    convert([write(tmp_path / "a.parquet", row(), bad, row("How many?", "7"))], tmp_path / "out")
    assert [made["reward_model"]["ground_truth"] for made in rows_of(tmp_path / "out", "training")] == ["B", "7"]
    ((file, line, bad_field, why),) = rejected_of(tmp_path / "out")
    assert (file, line, bad_field) == ("a.parquet", 2, field)
    assert why.startswith(reason)


def test_an_image_is_bounded_before_it_is_decoded():
    assert IMAGE_PIXELS < 9_000 * 9_000
    with pytest.raises(BadRow, match="has more than 64,000,000 pixels: 9000 x 9000"):
        check_row(row(image=huge_header()))


@pytest.mark.parametrize(("kind", "suffix"), [("PNG", "png"), ("JPEG", "jpg"), ("WEBP", "webp"), ("BMP", "bmp")])
def test_images_are_named_by_what_they_are(tmp_path, kind, suffix):
    convert([write(tmp_path / "a.parquet", row(image=picture(kind=kind)))], tmp_path / "out")
    (image,) = (tmp_path / "out/images").iterdir()
    assert image.suffix == f".{suffix}"
    assert Image.open(image).format == kind


def test_an_image_of_several_rows_is_one_file_and_a_row_twice_is_named(tmp_path):
    rows = row(), row("How many?", "7"), row(), row(image=picture(1))
    convert([write(tmp_path / "a.parquet", *rows)], tmp_path / "out")
    assert len(list((tmp_path / "out/images").iterdir())) == 2
    ((_, line, _, why),) = rejected_of(tmp_path / "out")
    assert line == 3
    assert why.startswith("was used by an earlier row")


def test_several_files(tmp_path):
    first = write(tmp_path / "a.parquet", row(), row("How many?", "7"))
    second = write(tmp_path / "b.parquet", row(), row("How many?", "8"))
    convert([first, second], tmp_path / "out")
    truths = [[r["reward_model"]["ground_truth"] for r in rows_of(tmp_path / "out", f"training-{n}")] for n in (1, 2)]
    assert truths == [["B", "7"], ["8"]]
    assert rejected_of(tmp_path / "out") == [("b.parquet", 1, "(row)", "stands in an earlier file too: a.parquet")]


def test_a_dry_run_counts_and_writes_nothing(tmp_path):
    conversion = convert([write(tmp_path / "a.parquet", row(), row(answer="E"))], tmp_path / "out", dry_run=True)
    assert conversion.tallies["a.parquet"].rows == 1
    assert conversion.tallies["a.parquet"].rejected.total() == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.parquet"]


def test_what_breaks_off_leaves_nothing(tmp_path, monkeypatch):
    path = write(tmp_path / "a.parquet", row())
    monkeypatch.setattr("data_prep.multimodal_open_r1.rl_row", lambda **_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        convert([path], tmp_path / "out")
    assert sorted(found.name for found in tmp_path.iterdir()) == ["a.parquet"]


@pytest.mark.parametrize("kind", ["missing", "text", "empty", "truncated", "other columns", "one name"])
def test_a_file_that_cannot_be_used_is_one_line_and_no_traceback(tmp_path, monkeypatch, capsys, kind):
    path = tmp_path / "a.parquet"
    files = [path]
    if kind == "text":
        path.write_text("no parquet")
    elif kind == "empty":
        path.touch()
    elif kind == "truncated":
        path.write_bytes(write(tmp_path / "whole", row()).read_bytes()[:-40])
    elif kind == "other columns":
        pq.write_table(pa.table({"problem": ["x"]}), path)
    elif kind == "one name":
        files = [write(path, row()), path]
    monkeypatch.setattr(sys, "argv", ["multimodal_open_r1", *map(str, files), "--out", str(tmp_path / "out")])
    assert main() == 2
    errors = capsys.readouterr().err
    assert "a.parquet" in errors
    assert errors.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_damaged_page_leaves_nothing(tmp_path):
    whole = write(tmp_path / "whole.parquet", *(row(str(number), "7") for number in range(50)))
    place = pq.read_metadata(whole).row_group(0).column(2).data_page_offset  # of the problems
    content = whole.read_bytes()
    path = tmp_path / "a.parquet"
    path.write_bytes(content[:place] + b"\xff" * 200 + content[place + 200 :])
    with pytest.raises(BadFile, match=r"a\.parquet: is damaged behind row 0"):
        convert([path], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command(tmp_path, monkeypatch, capsys):
    path = write(tmp_path / "a.parquet", row(), row("How many?", "7"), row(answer="E"))
    monkeypatch.setattr(sys, "argv", ["multimodal_open_r1", str(path), "--out", str(tmp_path / "out")])
    assert main() == 0
    said = capsys.readouterr().out
    assert "multiple choice" in said
    assert "answer is not among the options" in said
    record = json.loads((tmp_path / "out/conversion.json").read_text())
    assert record["files"]["a.parquet"] == {"rows": 2, "rejected": 1, "not_sampled": 0}
