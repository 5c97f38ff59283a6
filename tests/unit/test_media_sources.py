"""A clip comes as a file, a folder or a list of frames, or pixels: never above its budget, and nothing else is read."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from tests.unit.clips import PATCH, write_clip
from verl_care.data.budget import ImageBudget, VideoBudget
from verl_care.data.decoders import MediaError, pyav
from verl_care.data.media import load_clip, load_image, media_items, released_times
from verl_care.data.sources import clip_of, frames_in, image_of


def loaded(part, **budget):
    return load_clip(clip_of({"type": "video", **part}), pyav, VideoBudget(**budget), PATCH)


def write_frames(folder, count=20, size=(64, 48)):
    folder.mkdir()
    for number in range(count):
        Image.new("RGB", size, (10 * number,) * 3).save(folder / f"frame_{number}.png")
    return str(folder)


@pytest.fixture(params=["file", "folder", "list of files", "list of images", "tensor", "array"])
def clip(request, tmp_path):
    """20 frames of 640 x 360; at 2 a second where the source does not say."""
    if request.param == "file":
        return write_clip(tmp_path / "a.mp4", frames=20, fps=2, width=640, height=360)
    if request.param == "folder":
        return write_frames(tmp_path / "frames", size=(640, 360))
    if request.param == "list of files":
        return [str(path.path) for path in frames_in_written(tmp_path)]
    if request.param == "list of images":
        return [Image.new("RGB", (640, 360), (10 * number,) * 3) for number in range(20)]
    pixels = torch.stack([torch.full((3, 360, 640), 10 * number, dtype=torch.uint8) for number in range(20)])
    return pixels if request.param == "tensor" else pixels.numpy()


def frames_in_written(tmp_path):
    from pathlib import Path

    return frames_in(Path(write_frames(tmp_path / "frames", size=(640, 360))))


class TestEverySource:
    @pytest.mark.parametrize("max_pixels", [28 * 28, 20 * 28 * 28, 128 * 28 * 28])
    def test_never_above_budget(self, clip, max_pixels):
        frames, metadata = loaded({"video": clip}, max_frames=8, max_pixels=max_pixels)
        assert len(frames) == 8
        assert frames.shape[-2] * frames.shape[-1] <= max_pixels
        assert frames.shape[-2] % 28 == frames.shape[-1] % 28 == 0
        assert frames.dtype == torch.uint8
        assert (metadata["fps"], metadata["total_num_frames"]) == (2.0, 20)
        assert metadata["frames_indices"] == [0, 3, 5, 8, 11, 14, 16, 19]  # 19/7 = 2.71
        level = frames.float().mean(dim=(1, 2, 3)) / 10
        assert (level - torch.tensor([0.0, 3, 5, 8, 11, 14, 16, 19])).abs().max() < 0.5

    def test_a_stretch(self, clip):
        frames, metadata = loaded({"video": clip, "video_start": 2.0, "video_end": 4.5}, max_pixels=28 * 28)
        # frames 4 to 9: 6 of them in 3 s at 2 a second
        assert metadata["frames_indices"] == [4, 5, 6, 7, 8, 9]
        assert metadata["total_num_frames"] == 6  # sampled at 6 / 6 * 2 = 2 a second
        assert (frames.float().mean(dim=(1, 2, 3)) / 10 - torch.arange(4, 10)).abs().max() < 0.5

    @pytest.mark.parametrize(
        "bounds",
        [
            {"video_start": 9.9, "video_end": 9.0},
            {"video_start": 99.0},
            {"video_start": "now"},
            {"video_end": math.nan},
            {"video_end": True},
        ],
        ids=str,
    )
    def test_a_stretch_of_nothing(self, clip, bounds):
        with pytest.raises(MediaError, match=r"no frame between|is no number"):
            loaded({"video": clip, **bounds})


class TestFrames:
    def test_a_folder_is_read_in_the_order_of_its_numbers(self, tmp_path):
        write_frames(tmp_path / "frames", count=12)
        (tmp_path / "frames" / "notes.txt").write_text("no frame")
        names = [file.path.rsplit("_", 1)[1] for file in frames_in(tmp_path / "frames")]
        assert names == [f"{number}.png" for number in range(12)]

    def test_digits_of_other_scripts_are_letters(self, tmp_path):
        (tmp_path / "frames").mkdir()
        for name in ("1²2.jpg", "1a2.jpg", "1٣2.jpg", "10.jpg", "9.jpg"):
            (tmp_path / "frames" / name).touch()
        names = [file.path.rsplit("/", 1)[1] for file in frames_in(tmp_path / "frames")]
        # behind 1 by code point: a is U+0061, ² U+00B2, ٣ U+0663
        assert names == ["1a2.jpg", "1²2.jpg", "1٣2.jpg", "9.jpg", "10.jpg"]

    def test_larger_than_a_frame_may_be(self, tmp_path, monkeypatch):
        monkeypatch.setattr("verl_care.data.decoders.FRAME_PIXELS", 64 * 48 - 1)
        with pytest.raises(MediaError, match="frames of 64 x 48 pixels, more than 3,071"):
            loaded({"video": write_frames(tmp_path / "frames")})

    def test_their_rate_is_named_by_the_row(self, tmp_path):
        # 20 frames at 5 a second: 4 s, 8 wanted
        frames, metadata = loaded({"video": write_frames(tmp_path / "frames"), "raw_fps": 5.0})
        assert len(frames) == 8
        assert metadata["fps"] == 5.0

    def test_an_odd_number_of_them(self, tmp_path):
        assert loaded({"video": write_frames(tmp_path / "frames", count=5)})[1]["frames_indices"] == [0, 1, 3, 4]

    def test_one_frame_is_shown_twice(self, tmp_path):
        assert loaded({"video": write_frames(tmp_path / "frames", count=1)})[1]["frames_indices"] == [0, 0]

    def test_of_several_sizes(self, tmp_path):
        write_frames(tmp_path / "frames", count=4)
        Image.new("RGB", (32, 32)).save(tmp_path / "frames" / "frame_2.png")
        with pytest.raises(MediaError, match=r"frames differ in size \(32x32, 64x48\)"):
            loaded({"video": str(tmp_path / "frames")})

    def test_none(self, tmp_path):
        (tmp_path / "frames").mkdir()
        with pytest.raises(MediaError, match="has no frame"):
            loaded({"video": str(tmp_path / "frames")})

    @pytest.mark.parametrize("pixels", [torch.zeros(4, 3, 28, 28), torch.zeros(4, 28, 28, 3, dtype=torch.uint8)])
    def test_pixels_of_another_kind(self, pixels):
        with pytest.raises(MediaError, match="not uint8 of"):
            loaded({"video": pixels})


class TestPaths:
    @pytest.mark.parametrize("kind", ["video", "image"])
    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("https://example.org/a.mp4", "is an address"),
            ("concat:/etc/hostname|/etc/hostname", "No such file"),
            ("data:image/png;base64,AAAA", "No such file"),
            ("no such file.mp4", "No such file"),
            ("a" * 300, "File name too long"),
            ("", "is no path"),
            ("a\0.mp4", "is no path"),
            ("\ud800.mp4", "is no path"),
            (b"a.mp4", "is no path"),
            ("/dev/null", "is no file"),
            ("~nosuchuser/a.mp4", "is in the home folder of a user that is not known here"),
        ],
        ids=str,
    )
    def test_nothing_but_a_local_file_is_read(self, kind, name, message):
        read = clip_of if kind == "video" else image_of
        if isinstance(name, bytes):
            name, kind = [name], "video"
            read = clip_of
        with pytest.raises(MediaError, match=message):
            read({"type": kind, kind: name})

    @pytest.mark.parametrize("video", [None, 3, {"path": "a.mp4"}], ids=str)
    def test_what_is_no_clip_at_all(self, video):
        with pytest.raises(MediaError, match="is neither a path nor frames"):
            clip_of({"type": "video", "video": video})

    def test_a_file_address_is_a_path(self, tmp_path):
        path = write_clip(tmp_path / "a b.mp4")
        assert clip_of({"video": f"file://{path}"}).source.path == path

    def test_a_list_of_other_files_is_no_clip(self, tmp_path):
        """FFmpeg takes a playlist for a video, whatever its name, and would go where it says."""
        (tmp_path / "a.mp4").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
        with pytest.raises(MediaError):
            loaded({"video": str(tmp_path / "a.mp4")})

    def test_a_file_that_changed_is_another(self, tmp_path):
        before = clip_of({"video": write_clip(tmp_path / "a.mp4")})
        content = before.digest
        after = clip_of({"video": write_clip(tmp_path / "a.mp4", frames=20)})
        assert before.identity != after.identity
        assert content != after.digest

    def test_the_same_content_elsewhere(self, tmp_path):
        one, other = (clip_of({"video": write_clip(tmp_path / name)}) for name in ("a.mp4", "b.mp4"))
        assert one.identity != other.identity
        assert one.digest == other.digest


def test_an_image_of_a_row(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (56, 84, 3), dtype=np.uint8)
    image = load_image(image_of({"image": Image.fromarray(pixels)}), ImageBudget(), PATCH)
    assert np.array_equal(np.asarray(image), pixels)


def test_media_in_reading_order():
    def part(kind, name):
        return {"type": kind, kind: name}

    content = [part("video", "a.mp4"), {"type": "text", "text": "and"}, part("image", "b.png"), part("video", "c.mp4")]
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": content}]
    assert [part["video"] for part in media_items(messages, "video")] == ["a.mp4", "c.mp4"]
    assert [part["image"] for part in media_items(messages * 2, "image")] == ["b.png", "b.png"]
    assert media_items([{"role": "user", "content": None}, {"role": "user"}], "image") == []


def test_released_times():
    # 8 of 8 frames at 2 a second: two frames a patch, one second
    metadata = released_times(8)
    assert len(metadata["frames_indices"]) / metadata["total_num_frames"] * metadata["fps"] == 2.0
