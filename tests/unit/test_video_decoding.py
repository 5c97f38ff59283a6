"""Clips and images are decoded and sized to their budget; what cannot be decoded is named."""

from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from tests.unit.clips import DECODERS, PATCH, write_clip, write_sound
from verl_care.data import decoders
from verl_care.data.budget import ImageBudget, VideoBudget
from verl_care.data.decoders import MediaError
from verl_care.data.headers import clip_header
from verl_care.data.media import load_clip, load_image
from verl_care.data.sources import clip_of, image_of


@pytest.fixture(params=DECODERS)
def decoder(request):
    return request.param


def clip(path, decoder, budget=VideoBudget()):  # noqa: B008 - frozen
    return load_clip(clip_of({"video": path}), decoder, budget, PATCH)


def image(path):
    return load_image(image_of({"image": str(path)}), ImageBudget(), PATCH)


class TestLoadVideo:
    @pytest.mark.parametrize("codec", ["mpeg4", "libx264"])
    def test_the_frames_are_the_ones_asked_for(self, tmp_path, decoder, codec):
        path = write_clip(tmp_path / "clip.mp4", codec=codec)
        frames, metadata = clip(path, decoder)
        assert metadata == {
            "fps": 8.0,
            "frames_indices": [0, 5, 9, 14, 18, 23],
            "total_num_frames": 24,
            "video_backend": decoder.__name__,
        }
        assert frames.shape == (6, 3, 56, 56)  # 48 / 28 = 1.7 and 64 / 28 = 2.3, to the nearest: 2 patches each
        assert frames.dtype == torch.uint8
        assert frames.is_contiguous()
        level = frames.float().mean(dim=(1, 2, 3))
        expected = torch.tensor([0.0, 50, 90, 140, 180, 230])
        assert (level - expected).abs().max() < 6  # neighbours are 10 apart

    def test_a_clip_that_fits_is_not_resized(self, tmp_path, decoder):
        path = write_clip(tmp_path / "clip.mp4", width=84, height=56)
        frames, _ = clip(path, decoder)
        assert torch.equal(frames, decoder(path, [0, 5, 9, 14, 18, 23]))

    def test_a_large_clip_is_brought_within_the_budget(self, tmp_path, decoder):
        path = write_clip(tmp_path / "clip.mp4", frames=4, width=640, height=360)
        frames, _ = clip(path, decoder, VideoBudget(max_pixels=20 * 28 * 28))
        # scale sqrt(230400/15680) = 3.833: 93.9 x 167.0, down to 84 x 140
        assert frames.shape == (4, 3, 84, 140)

    @pytest.mark.parametrize(("count", "expected"), [(1, [0, 0]), (2, [0, 1]), (3, [0, 2])])
    def test_short_clips(self, tmp_path, decoder, count, expected):
        frames, metadata = clip(write_clip(tmp_path / "clip.mp4", frames=count), decoder)
        assert metadata["frames_indices"] == expected
        assert len(frames) == 2

    def test_the_name_of_a_file_is_no_promise(self, tmp_path, decoder):
        path = write_clip(tmp_path / "clip.jpg")
        assert len(clip(path, decoder)[0]) == 6

    def test_fewer_frames_than_packets(self, tmp_path, monkeypatch):
        # a clip that was cut out of another without decoding it carries packets that give no frame
        path, real = write_clip(tmp_path / "clip.mp4"), decoders.indexed
        monkeypatch.setattr(decoders, "indexed", lambda path: real(path)._replace(total=28))
        found = decoders.decode(path, decoders.pyav, VideoBudget())
        assert found.total == 24
        assert found.indices == [0, 5, 9, 14, 18, 23]

    @pytest.mark.parametrize("kind", ["missing", "empty", "truncated", "damaged", "sound", "text", "folder"])
    def test_what_cannot_be_decoded_is_named(self, tmp_path, decoder, kind):
        path = tmp_path / "clip.mp4"
        if kind == "empty":
            path.touch()
        elif kind == "truncated":
            content = Path(write_clip(tmp_path / "whole.mp4")).read_bytes()
            path.write_bytes(content[: len(content) // 2])  # the index is at the end
        elif kind == "damaged":
            write_clip(path, codec="libx264")
            with av.open(str(path)) as container:
                start, size = [(packet.pos, packet.size) for packet in container.demux(video=0)][12]
            content = path.read_bytes()
            path.write_bytes(content[:start] + b"\xff" * size + content[start + size :])
        elif kind == "sound":
            write_sound(path)
        elif kind == "text":
            path.write_text("not a clip at all\n" * 100)
        elif kind == "folder":
            path.mkdir()
        with pytest.raises(MediaError) as caught:
            clip(str(path), decoder)
        assert str(path) in str(caught.value)

    def test_a_strip(self, tmp_path, decoder):
        path = write_clip(tmp_path / "clip.mp4", frames=2, width=450, height=2)
        with pytest.raises(MediaError, match=r"clip\.mp4: absolute aspect ratio"):
            clip(path, decoder)

    def test_memory_does_not_grow_with_the_clip(self, tmp_path, monkeypatch):
        path = write_clip(tmp_path / "clip.mp4", frames=200)
        kept = []
        monkeypatch.setattr(decoders.torch, "from_numpy", lambda array: kept.append(1) or torch.as_tensor(array))
        decoders.decode(path, decoders.pyav, VideoBudget())
        assert len(kept) == 16  # of 200


class TestChoice:
    @pytest.fixture(autouse=True)
    def anew(self):
        decoders._chosen.cache_clear()
        yield
        decoders._chosen.cache_clear()

    def test_the_first_that_loads_is_named_once(self, monkeypatch, caplog):
        monkeypatch.setattr(decoders, "why_not", lambda name: "no libavutil.so.60" if name == "torchcodec" else "")
        assert decoders.chosen() is decoders.chosen() is decoders.pyav
        assert [record.message for record in caplog.records] == [
            "clips are decoded with pyav; not torchcodec: no libavutil.so.60"
        ]

    def test_torchcodec_where_it_loads(self, monkeypatch):
        monkeypatch.setattr(decoders, "why_not", lambda name: "")
        assert decoders.chosen("auto") is decoders.torchcodec

    def test_decord_only_if_asked_for(self, monkeypatch):
        monkeypatch.setattr(decoders, "why_not", lambda name: "" if name == "decord" else "not here")
        assert decoders.chosen("decord") is decoders.decord
        with pytest.raises(MediaError, match=r"decoder=auto does not load.*not here"):
            decoders.chosen("auto")

    def test_not_installed(self, monkeypatch):
        monkeypatch.setitem(decoders.MODULES, "decord", "no_such_package")
        assert decoders.why_not("decord") == "it is not installed"


class TestLoadImage:
    def test_sized_to_the_budget(self, tmp_path):
        Image.new("L", (1280, 720), 7).save(tmp_path / "a.png")
        found = image(tmp_path / "a.png")
        # scale sqrt(921600/200704) = 15/7: 336 and 597.3, down to 588
        assert found.size == (588, 336)
        assert found.mode == "RGB"

    def test_one_that_fits_is_left_alone(self, tmp_path):
        pixels = np.random.default_rng(0).integers(0, 256, (56, 84, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "a.png")
        assert np.array_equal(np.asarray(image(tmp_path / "a.png")), pixels)

    @pytest.mark.parametrize("kind", ["missing", "empty", "truncated", "text", "folder", "strip", "garbled"])
    def test_what_is_no_image_is_named(self, tmp_path, kind):
        path = tmp_path / "a.png"
        if kind == "empty":
            path.touch()
        elif kind in ("truncated", "garbled"):
            Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 90, 3), dtype=np.uint8)).save(path)
            content = path.read_bytes()
            path.write_bytes(content[:900] if kind == "truncated" else content[:60] + b"\xff" * 900 + content[960:])
        elif kind == "text":
            path.write_text("no image")
        elif kind == "folder":
            path.mkdir()
        elif kind == "strip":
            Image.new("RGB", (1, 201)).save(path)
        with pytest.raises(MediaError, match=r"a\.png") as caught:
            image(path)
        assert str(path) in str(caught.value)

    def test_transparency_is_white(self, tmp_path):
        Image.new("RGBA", (56, 56), (0, 0, 0, 0)).save(tmp_path / "a.png")
        assert image(tmp_path / "a.png").getpixel((5, 5)) == (255, 255, 255)


def test_frames_of_any_size_are_not_decoded(tmp_path):
    """A GIF of 93 kB, whose four frames would take 384 MB."""
    picture = Image.new("P", (8000, 4000))
    pictures = [Image.new("P", (8000, 4000), color) for color in (1, 2, 3)]
    picture.save(tmp_path / "huge.gif", save_all=True, append_images=pictures)

    def no_decoder(*_):
        raise AssertionError("it was decoded")

    clip = clip_of({"video": str(tmp_path / "huge.gif")})
    reason = r"huge\.gif: frames of 8000 x 4000 pixels, more than 16,777,216"
    with pytest.raises(MediaError, match=reason):
        load_clip(clip, no_decoder, VideoBudget(), PATCH)
    with pytest.raises(MediaError, match=reason):
        clip_header(clip.source, clip.frame_rate, VideoBudget())
