"""What each kind of damage in a file of Video-R1 is told as."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data_prep.video_r1 import convert
from tests.unit.converted import ids_of, rejected_of
from tests.unit.video_r1_rows import OPTIONS, media_root, open_row, row, write

TRAINING, EVALUATION = "Video-R1-260k.json", "eval_mvbench.json"
# kind of damage: (file, row, field to blame, how the reason begins)
BAD: dict[str, tuple[str, Any, str, str]] = {
    "null row": (TRAINING, None, "(row)", "must be a JSON object: found None"),
    "list for a row": (TRAINING, [row(9)], "(row)", "must be a JSON object: found [{"),
    "no problem": (TRAINING, {"problem_id": 9}, "problem_type", "is missing"),
    "null problem": (TRAINING, row(9, problem=None), "problem", "must be a text: found None"),
    "problem of blanks": (TRAINING, row(9, problem=" \n"), "problem", "must not be empty"),
    "mark in the problem": (TRAINING, row(9, problem="<video>What?"), "problem", "contains the media mark <video>"),
    "token in an option": (
        TRAINING,
        row(9, options=["A. <|video_pad|>", "B. b"]),
        "options",
        "contains a special token: '<|video_pad|>'",
    ),
    "duplicate id": (TRAINING, row(0), "problem_id", "was used by an earlier row: 0, in line 2"),
    "id is a fraction": (TRAINING, row(1.5), "problem_id", "must be a whole number or a text: found 1.5"),
    "unknown data type": (
        TRAINING,
        row(9, data_type="audio"),
        "data_type",
        "must be one of image, video: found 'audio'",
    ),
    "frames in training": (
        TRAINING,
        row(9, data_type="frame"),
        "data_type",
        "must be one of image, video: found 'frame'",
    ),
    "list for a data type": (
        TRAINING,
        row(9, data_type=["video"]),
        "data_type",
        "must be one of image, video: found [",
    ),
    "unknown problem type": (
        TRAINING,
        row(9, problem_type="Multiple Choice"),
        "problem_type",
        "must be one of multiple choice, numerical",
    ),
    "null options": (TRAINING, row(9, options=None), "options", "must be a list: found None"),
    "null options of an open question": (
        TRAINING,
        open_row(9, "OCR", "x") | {"options": None},
        "options",
        "must be a list: found None",
    ),
    "options are a text": (TRAINING, row(9, options="A. a"), "options", "must be a list: found 'A. a'"),
    "no options": (TRAINING, row(9, options=[]), "options", "must be 2 to 26 texts: has 0"),
    "27 options": (
        TRAINING,
        row(9, options=[f"{c}. x" for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ["]),
        "options",
        "must be 2 to 26 texts: has 27",
    ),
    "number among options": (TRAINING, row(9, options=["A. a", 2]), "options", "must be a text: found 2"),
    "empty option": (TRAINING, row(9, options=["A. a", ""]), "options", "holds an empty text: ['A. a', '']"),
    "options without letters": (
        TRAINING,
        row(9, options=["Apple", "Banana"]),
        "options",
        "must be lettered from A on, as in 'A. text': found 'Apple'",
    ),
    "a letter left out": (
        TRAINING,
        row(9, options=["A. a", "C. c"]),
        "options",
        "must be lettered from A on, as in 'A. text': found 'C. c' for B",
    ),
    "options of an open question": (
        TRAINING,
        open_row(9, "OCR", "x") | {"options": OPTIONS},
        "options",
        "must be empty where problem_type is OCR",
    ),
    "answer not among the options": (
        TRAINING,
        row(9, solution="<answer>E</answer>"),
        "solution",
        "is not among the options' letters A to D: 'E'",
    ),
    "two answers at once": (
        TRAINING,
        row(9, solution="<answer>AB</answer>"),
        "solution",
        "is not among the options' letters A to D: 'AB'",
    ),
    "answer is an option's text": (
        TRAINING,
        row(9, solution="<answer>B. a blue cup</answer>"),
        "solution",
        "is not among the options' letters A to D",
    ),
    "answer without tags": (
        TRAINING,
        row(9, solution="B"),
        "solution",
        "must be one <answer>...</answer> and nothing else",
    ),
    "answer not closed": (TRAINING, row(9, solution="<answer>B"), "solution", "must be one <answer>...</answer>"),
    "two answers": (
        TRAINING,
        row(9, solution="<answer>B</answer><answer>C</answer>"),
        "solution",
        "must be one <answer>...</answer>",
    ),
    "empty answer": (TRAINING, row(9, solution="<answer> </answer>"), "solution", "must not be empty between its tags"),
    "null solution": (TRAINING, row(9, solution=None), "solution", "must be a text: found None"),
    "number in words": (
        TRAINING,
        open_row(9, "numerical", "five"),
        "solution",
        "must be a number where problem_type is numerical: found 'five'",
    ),
    "infinite number": (
        TRAINING,
        open_row(9, "regression", "inf"),
        "solution",
        "must be a number where problem_type is",
    ),
    "path that leaves ROOT": (TRAINING, row(9, path="./../secret.mp4"), "path", "leaves ROOT: './../secret.mp4'"),
    "absolute path": (TRAINING, row(9, path="/etc/passwd"), "path", "leaves ROOT: '/etc/passwd'"),
    "path is a number": (TRAINING, row(9, path=5), "path", "must be a text: found 5"),
    "missing clip": (TRAINING, row(9, path="./NeXT-QA/gone.mp4"), "path", "does not exist: './NeXT-QA/gone.mp4'"),
    "missing folder": (TRAINING, row(9, path="./gone/clip.mp4"), "path", "does not exist: './gone/clip.mp4'"),
    "folder for a clip": (TRAINING, row(9, path="./NeXT-QA"), "path", "is a folder, not a file: './NeXT-QA'"),
    "no source": (TRAINING, row(9, data_source=""), "data_source", "must not be empty"),
    "file for a folder of frames": (
        EVALUATION,
        row(9, data_type="frame"),
        "path",
        "is a file, not a folder of frames: './NeXT-QA/clip.mp4'",
    ),
    "folder without frames": (
        EVALUATION,
        row(9, data_type="frame", path="./Evaluation/TVQA/empty"),
        "path",
        "is an empty folder: ",
    ),
    "frame rate of 0": (
        EVALUATION,
        row(9, data_type="frame", path="./Evaluation/TVQA/scene", fps=0),
        "fps",
        "must be above 0: 0.0",
    ),
    "start is a text": (EVALUATION, row(9, start="3.5"), "start", "must be a finite number: found '3.5'"),
    "start is NaN": (EVALUATION, row(9, start=float("nan")), "start", "must be a finite number: found nan"),
    "negative start": (EVALUATION, row(9, start=-1, end=3), "start", "must not be negative: -1.0"),
    "ends before it starts": (
        EVALUATION,
        row(9, start=5, end=5),
        "end",
        "must be behind the start: 5.0, starts at 5.0",
    ),
    "start twice": (EVALUATION, row(9, start=1, video_start=2), "video_start", "says again what start says"),
    "bounds of an image": (
        EVALUATION,
        row(9, data_type="image", path="./Chart/chart.png", end=3),
        "start",
        "an image has no clip bounds",
    ),
    "bounds by another name": (
        EVALUATION,
        row(9, clip_start=3),
        "clip_start",
        "looks like a clip bound, but bounds are read from start and end only",
    ),
}


@pytest.mark.parametrize(("file", "bad", "field", "reason"), BAD.values(), ids=BAD.keys())
def test_a_bad_row_is_left_out_and_named(tmp_path: Path, file: str, bad: Any, field: str, reason: str) -> None:
    root = media_root(tmp_path)
    path = write(root, file, row(0), bad, row(1))
    convert(root, root.parent / "out")
    assert ids_of(root.parent / "out", path.stem) == ["0", "1"]
    (rejected,) = rejected_of(root.parent / "out")
    # the first row ends in a line of its own, '  },'; the bad one begins behind it
    line = path.read_text().splitlines().index("  },") + 2
    assert rejected[:3] == (file, line, field)
    assert rejected[3].startswith(reason)
