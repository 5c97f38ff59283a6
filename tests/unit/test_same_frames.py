"""Every decoder gives the same frames: constant and variable rate, turned, cut, of odd size, reordered."""

from fractions import Fraction

import pytest

from tests.unit.clips import DECODERS, cut, turn, write_clip
from verl_care.data.budget import Stretch, VideoBudget
from verl_care.data.decoders import decode, indexed, pyav

# 24 frames, 80 ms apart, then 200 ms, the last for 1/8 s: on average 24 / (12 * 0.08 + 11 * 0.2 + 0.125) = 7.306 fps
UNEVEN = [*range(0, 12 * 80, 80), *range(12 * 80, 12 * 80 + 12 * 200, 200)]


@pytest.fixture(params=DECODERS)
def decoder(request):
    return request.param


@pytest.fixture(params=["mpeg4", "libx264"])
def codec(request):
    return request.param


def numbers(frames):
    """The frames' own numbers: `write_clip` makes frame i grey of level 10 * i."""
    return [round(level / 10) for level in frames.float().mean(dim=(1, 2, 3)).tolist()]


class TestSameFrames:
    @pytest.mark.parametrize("fps", [8, Fraction(30000, 1001)])
    def test_a_constant_rate(self, tmp_path, decoder, codec, fps):
        found = decode(write_clip(tmp_path / "a.mp4", fps=fps, codec=codec), decoder, VideoBudget(min_frames=6))
        assert numbers(found.frames) == found.indices == [0, 5, 9, 14, 18, 23]  # 23/5 = 4.6
        assert (found.total, found.fps) == (24, pytest.approx(float(fps)))

    def test_a_variable_rate(self, tmp_path, decoder, codec):
        found = decode(write_clip(tmp_path / "a.mp4", times=UNEVEN, codec=codec), decoder, VideoBudget())
        assert found.fps == pytest.approx(7.306, abs=0.001)
        assert numbers(found.frames) == found.indices == [0, 5, 9, 14, 18, 23]  # 24 / 7.306 * 2 = 6.6 wanted

    def test_reordered_frames(self, tmp_path, decoder):
        found = decode(write_clip(tmp_path / "a.mp4", codec="libx264", bframes=2), decoder, VideoBudget())
        assert numbers(found.frames) == found.indices == [0, 5, 9, 14, 18, 23]

    @pytest.mark.parametrize("bframes", [0, 2])
    def test_an_edit_list_that_cuts(self, tmp_path, decoder, bframes):
        """Frames 5 to 16 are shown; the first keyframe before is 0, which a player decodes and does not show."""
        path = cut(write_clip(tmp_path / "a.mp4", codec="libx264", bframes=bframes), first=5, frames=12)
        assert indexed(path) == (12, 8.0, True, 48, 64)
        found = decode(path, decoder, VideoBudget())
        assert found.indices == [0, 4, 7, 11]  # 1.5 s: 3 wanted, 4 at least; 11/3 = 3.67
        assert numbers(found.frames) == [5, 9, 12, 16]

    @pytest.mark.parametrize(("degrees", "bright"), [(90, "bottom"), (180, "left"), (270, "top")])
    def test_a_turned_picture(self, tmp_path, decoder, codec, degrees, bright):
        """The left half is black: turned clockwise by 90 degrees it lies on top."""
        path = turn(write_clip(tmp_path / "a.mp4", codec=codec, half=True), degrees)
        frames = decode(path, decoder, VideoBudget()).frames
        assert frames.shape[-2:] == ((48, 64) if degrees == 180 else (64, 48))
        last = frames[-1].float()
        edges = {"top": last[:, :5], "bottom": last[:, -5:], "left": last[:, :, :5], "right": last[:, :, -5:]}
        assert max(edges, key=lambda edge: float(edges[edge].mean())) == bright
        assert float(edges[bright].mean()) > 200

    def test_odd_sizes(self, tmp_path, decoder, codec):
        frames = decode(write_clip(tmp_path / "a.mp4", width=65, height=49, codec=codec), decoder, VideoBudget()).frames
        assert frames.shape == (6, 3, 49, 65)
        assert numbers(frames) == [0, 5, 9, 14, 18, 23]

    def test_a_stretch(self, tmp_path, decoder, codec):
        found = decode(write_clip(tmp_path / "a.mp4", codec=codec), decoder, VideoBudget(), Stretch(0.6, 2.0))
        # ceil(0.6 * 8) = 5 to floor(2.0 * 8) = 16: 12 frames, 3 wanted, 4 at least; 11/3 = 3.67
        assert numbers(found.frames) == found.indices == [5, 9, 12, 16]

    def test_pixels_differ_by_rounding_alone(self, tmp_path, decoder):
        path = write_clip(tmp_path / "a.mp4", codec="libx264", half=True)
        ours, theirs = (decode(path, one, VideoBudget()).frames.int() for one in (pyav, decoder))
        assert (ours - theirs).abs().max() <= 4  # of 255: each converts colours in its own way
