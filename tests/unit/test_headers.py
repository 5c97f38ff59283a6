"""Headers of clips and images: what they say, and when they are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

from tests.unit.clips import write_clip, write_sound
from verl_care.data import headers
from verl_care.data.budget import VideoBudget
from verl_care.data.decoders import MediaError
from verl_care.data.headers import ClipHeader, clip_header, image_size
from verl_care.data.sources import File, clip_of, image_of


def header_of(video: Any, budget: VideoBudget = VideoBudget(), **part: Any) -> ClipHeader:  # noqa: B008 - frozen
    clip = clip_of({"video": video, **part})
    return clip_header(clip.source, clip.frame_rate, budget)


def test_a_long_clip_is_not_read_through(tmp_path: Path) -> None:
    clip = Path(write_clip(tmp_path / "clip.mp4", frames=200, fps=10))
    # 20 s, so 40 frames wanted and 16 allowed: more than twice
    assert header_of(clip) == ClipHeader(200, 10.0, 48, 64)
    clip.write_bytes(clip.read_bytes().replace(b"stsz", b"free"))  # the sizes of its packets: none can be read
    assert header_of(clip, VideoBudget(max_frames=20)).frames in (0, 200)


def test_a_folder_of_frames(tmp_path: Path) -> None:
    for number in range(5):
        Image.new("RGB", (40, 30)).save(tmp_path / f"{number:05d}.jpg")
    (tmp_path / "notes.txt").touch()
    assert header_of(str(tmp_path), raw_fps=3.0) == ClipHeader(5, 3.0, 30, 40)


def test_pictures_and_pixels() -> None:
    assert header_of([Image.new("RGB", (40, 30))] * 7) == ClipHeader(7, 2.0, 30, 40)
    assert header_of(torch.zeros(7, 3, 30, 40, dtype=torch.uint8), raw_fps=5) == ClipHeader(7, 5.0, 30, 40)
    assert image_size(Image.new("RGB", (40, 30))) == (30, 40)


@pytest.mark.parametrize("content", [b"", b"not a clip", b"\0" * 4096], ids=["empty", "text", "zeros"])
def test_files_that_are_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(MediaError, match=r"clip .*file: "):
        header_of(str(tmp_path / "file"))
    with pytest.raises(MediaError, match=r"image .*file: "):
        image_size(image_of({"image": str(tmp_path / "file")}))


def test_sound_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"sound\.mp4: has no video stream"):
        header_of(write_sound(tmp_path / "sound.mp4"))


def test_a_file_that_is_a_list_of_others_reads_files_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = write_clip(tmp_path / "clip.mp4")
    asked, real = [], av.open
    monkeypatch.setattr(av, "open", lambda path, **how: asked.append((path, how)) or real(path, **how))
    header_of(clip)
    assert asked == [(clip, {"options": {"protocol_whitelist": "file"}})]


class TestReadOnce:
    """Many rows are about one file."""

    @pytest.fixture
    def clips(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        found: list[str] = []
        real = headers.opened
        monkeypatch.setattr(headers, "opened", lambda path: found.append(path) or real(path))
        return found

    def test_a_clip(self, tmp_path: Path, clips: list[str]) -> None:
        path = write_clip(tmp_path / "clip.mp4")
        assert header_of(path) == header_of(path, video_start=1.0, raw_fps=3.0)  # a part of it has its header
        assert clips == [path]

    def test_one_that_changed_is_read_again(self, tmp_path: Path, clips: list[str]) -> None:
        path = write_clip(tmp_path / "clip.mp4", frames=8)
        assert header_of(path).frames == 8
        assert header_of(write_clip(tmp_path / "clip.mp4", frames=24)).frames == 24
        assert clips == [path, path]

    def test_an_image_and_the_first_frame_of_a_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(tmp_path / "0.png")
        image = image_of({"image": str(tmp_path / "0.png")})
        assert isinstance(image, File)
        assert image_size(image) == (30, 40)
        monkeypatch.setattr(headers.Image, "open", lambda path: pytest.fail(f"{path} is opened again"))
        assert image_size(image) == (30, 40)
        assert header_of(str(tmp_path)) == ClipHeader(1, 2.0, 30, 40)
