"""Clips and images are decoded and sized to their budget; what cannot be decoded is named."""

from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from tests.unit.clips import NEEDS_TORCHCODEC, PATCH, why_no_torchcodec, write_clip, write_sound
from verl_care.data import video
from verl_care.data.video import (
    ImageBudget,
    MediaError,
    VideoBudget,
    load_image,
    load_video,
)

DECODERS = [
    pytest.param(video.pyav, id="pyav"),
    pytest.param(video.torchcodec, id="torchcodec", marks=NEEDS_TORCHCODEC),
]


@pytest.fixture(params=DECODERS)
def decoder(request, monkeypatch):
    monkeypatch.setattr(video, "_decoder", lambda: request.param)
    return request.param


class TestLoadVideo:
    @pytest.mark.parametrize("codec", ["mpeg4", "libx264"])
    def test_the_frames_are_the_ones_asked_for(self, tmp_path, decoder, codec):
        path = write_clip(tmp_path / "clip.mp4", codec=codec)
        frames, metadata = load_video(path, VideoBudget(), PATCH)
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
        frames, _ = load_video(path, VideoBudget(), PATCH)
        assert torch.equal(frames, decoder(path, VideoBudget())[0])

    def test_a_large_clip_is_brought_within_the_budget(self, tmp_path, decoder):
        path = write_clip(tmp_path / "clip.mp4", frames=4, width=640, height=360)
        frames, _ = load_video(path, VideoBudget(max_pixels=20 * 28 * 28), PATCH)
        # scale sqrt(230400/15680) = 3.833: 93.9 x 167.0, down to 84 x 140
        assert frames.shape == (4, 3, 84, 140)

    @pytest.mark.parametrize(("count", "expected"), [(1, [0, 0]), (2, [0, 1]), (3, [0, 2])])
    def test_short_clips(self, tmp_path, decoder, count, expected):
        frames, metadata = load_video(write_clip(tmp_path / "clip.mp4", frames=count), VideoBudget(), PATCH)
        assert metadata["frames_indices"] == expected
        assert len(frames) == 2

    def test_the_name_of_a_file_is_no_promise(self, tmp_path, decoder):
        path = write_clip(tmp_path / "clip.jpg")
        assert len(load_video(path, VideoBudget(), PATCH)[0]) == 6

    def test_fewer_frames_than_packets(self, tmp_path, monkeypatch):
        # a clip that was cut out of another without decoding it carries packets that give no frame
        path, real = write_clip(tmp_path / "clip.mp4"), video._frames_at

        def without_the_last_four(path, indices):
            frames, _ = real(path, [index for index in indices if index < 20])
            return frames, 20

        monkeypatch.setattr(video, "_frames_at", without_the_last_four)
        frames, indices, total, _ = video.pyav(path, VideoBudget())
        assert total == 20
        assert indices == [0, 6, 13, 19]  # 2.5 s: 5 wanted, 4 is even
        assert frames.float().mean(dim=(1, 2, 3)).tolist() == pytest.approx([0, 60, 130, 190], abs=6)

    @pytest.mark.parametrize("kind", ["missing", "empty", "truncated", "damaged", "sound", "text", "folder"])
    def test_what_cannot_be_decoded_is_named(self, tmp_path, decoder, kind):
        path = tmp_path / "clip.mp4"
        if kind == "empty":
            path.touch()
        elif kind == "truncated":
            content = Path(write_clip(tmp_path / "whole.mp4")).read_bytes()
            path.write_bytes(content[:2000])  # the index is at the end
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
            load_video(str(path), VideoBudget(), PATCH)
        assert str(path) in str(caught.value)

    def test_a_strip(self, tmp_path, decoder):
        path = write_clip(tmp_path / "clip.mp4", frames=2, width=450, height=2)
        with pytest.raises(MediaError, match=r"clip\.mp4: absolute aspect ratio"):
            load_video(path, VideoBudget(), PATCH)

    @NEEDS_TORCHCODEC
    def test_both_decoders_give_the_same_pixels(self, tmp_path):
        path = write_clip(tmp_path / "clip.mp4", codec="libx264")
        one, other = video.pyav(path, VideoBudget()), video.torchcodec(path, VideoBudget())
        assert one[1:] == other[1:]
        assert (one[0].int() - other[0].int()).abs().max() <= 2  # of 255: the two convert colours in their own way

    def test_memory_does_not_grow_with_the_clip(self, tmp_path, monkeypatch):
        path = write_clip(tmp_path / "clip.mp4", frames=200)
        kept = []
        monkeypatch.setattr(video.torch, "from_numpy", lambda array: kept.append(1) or torch.as_tensor(array))
        video.pyav(path, VideoBudget())
        assert len(kept) == 16  # of 200

    def test_the_decoder_is_the_one_that_loads(self):
        expected = "pyav" if why_no_torchcodec() else "torchcodec"
        assert video.decoder_name() == expected


class TestLoadImage:
    def test_sized_to_the_budget(self, tmp_path):
        Image.new("L", (1280, 720), 7).save(tmp_path / "a.png")
        image = load_image(str(tmp_path / "a.png"), ImageBudget(), PATCH)
        # scale sqrt(921600/200704) = 15/7: 336 and 597.3, down to 588
        assert image.size == (588, 336)
        assert image.mode == "RGB"

    def test_one_that_fits_is_left_alone(self, tmp_path):
        pixels = np.random.default_rng(0).integers(0, 256, (56, 84, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "a.png")
        assert np.array_equal(np.asarray(load_image(str(tmp_path / "a.png"), ImageBudget(), PATCH)), pixels)

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
            load_image(str(path), ImageBudget(), PATCH)
        assert str(path) in str(caught.value)
