"""The frames of a page are those that the model saw, each one once; what is missing costs its picture."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.unit.clips import write_clip
from verl_care.data.budget import VideoBudget
from verl_care.report.thumbnails import Thumbnails

BUDGET = VideoBudget()


def opened(address: str) -> Image.Image:
    kind, _, data = address.partition(",")
    assert kind == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def level(address: str) -> float:
    return float(np.asarray(opened(address).convert("L")).mean())


@pytest.fixture
def clip(tmp_path) -> str:
    return write_clip(tmp_path / "a.mp4", frames=24, fps=8)  # frame i is grey of level 10 * i


def test_the_frames_at_the_times(clip):
    thumbnails = Thumbnails()
    found = thumbnails.clip({"video": clip, "frame_times": [0.0, 0.5, 1.25]}, BUDGET)  # frames 0, 4 and 10
    assert found["reason"] is None
    assert [frame["time"] for frame in found["frames"]] == [0, 0.5, 1.25]
    levels = [level(thumbnails.images[frame["image"]]) for frame in found["frames"]]
    assert levels == pytest.approx([0, 40, 100], abs=4)


def test_without_times_those_that_training_would_take(clip):
    # 3 s at 2 frames a second: 6 frames, from number 0 to 23, so 23 / 5 = 4.6 from one to the next
    found = Thumbnails().clip({"video": clip, "frame_times": None}, BUDGET)
    assert [frame["time"] * 8 for frame in found["frames"]] == [0, 5, 9, 14, 18, 23]


def test_each_picture_once(clip, tmp_path):
    copy = tmp_path / "b.mp4"
    copy.write_bytes(Path(clip).read_bytes())
    thumbnails = Thumbnails()
    first = thumbnails.clip({"video": clip, "frame_times": [0.0, 0.0, 0.5]}, BUDGET)
    second = thumbnails.clip({"video": str(copy), "frame_times": [0.5]}, BUDGET)
    assert [frame["image"] for frame in first["frames"]] == [0, 0, 1]
    assert [frame["image"] for frame in second["frames"]] == [1]
    assert len(thumbnails.images) == 2


def test_a_folder_of_frames(tmp_path):
    for number in range(4):
        Image.new("L", (40, 30), 60 * number).save(tmp_path / f"frame_{number}.png")
    thumbnails = Thumbnails()
    found = thumbnails.clip({"video": str(tmp_path), "raw_fps": 2.0, "frame_times": [0.5, 1.5]}, BUDGET)
    assert [level(thumbnails.images[frame["image"]]) for frame in found["frames"]] == pytest.approx([60, 180], abs=3)
    files = [str(tmp_path / f"frame_{number}.png") for number in (3, 0)]
    found = thumbnails.clip({"video": files, "raw_fps": 2.0, "frame_times": [0.0]}, BUDGET)
    assert level(thumbnails.images[found["frames"][0]["image"]]) == pytest.approx(180, abs=3)
    assert found["path"].startswith("2 frames: ")


def test_small_and_never_enlarged(tmp_path):
    Image.new("RGB", (1000, 500), "red").save(tmp_path / "wide.png")
    Image.new("RGB", (56, 56), "red").save(tmp_path / "tiny.png")
    thumbnails = Thumbnails()
    for name in ("wide", "tiny"):
        assert thumbnails.picture(str(tmp_path / f"{name}.png"))["reason"] is None
    assert [opened(address).size for address in thumbnails.images] == [(224, 112), (56, 56)]


@pytest.mark.parametrize(
    ("video", "reason"),
    [
        ({"video": "/nowhere/a.mp4"}, "No such file"),
        ({"video": "https://example.org/a.mp4"}, "is an address"),
        ({"video": None}, "no file"),
        ({"video": "/etc/passwd"}, "/etc/passwd"),
        ({"video": "/"}, "has no frame"),
        ({"video": "a\0b"}, "no path"),
        ({"video": "\ud800.mp4"}, "is no path"),
    ],
)
def test_what_cannot_be_shown_has_a_reason(video, reason):
    found = Thumbnails().clip({"frame_times": [0.0], **video}, BUDGET)
    assert found["frames"] == []
    assert found["reason"] is not None
    assert reason in found["reason"]
    found["path"].encode()
    found["reason"].encode()


@pytest.mark.parametrize("times", [[9.0], [-1.0], ["0"], [None], []])
def test_times_that_the_clip_does_not_have(clip, times):
    found = Thumbnails().clip({"video": clip, "frame_times": times}, BUDGET)
    assert found["frames"] == []
    assert "another than it was" in (found["reason"] or "")


def test_text_is_no_picture(tmp_path):
    (tmp_path / "a.png").write_text("<svg onload=alert(1)>")
    found = Thumbnails().picture(str(tmp_path / "a.png"))
    assert found["image"] is None
    assert "cannot identify" in (found["reason"] or "")


def test_the_bound(clip):
    thumbnails = Thumbnails(max_bytes=1)
    assert thumbnails.clip({"video": clip, "frame_times": [0.0]}, BUDGET)["frames"]
    assert "left out" in (thumbnails.clip({"video": clip, "frame_times": [0.5]}, BUDGET)["reason"] or "")
    assert thumbnails.clip({"video": clip, "frame_times": [0.0]}, BUDGET)["frames"]  # is there already
    assert len(thumbnails.images) == 1
