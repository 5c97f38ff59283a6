"""Which frames of a clip the model sees and how large."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.clips import PATCH
from verl_care.data.budget import Stretch, VideoBudget, fitted_size, frame_indices, frame_range


class TestFrameIndices:
    @pytest.mark.parametrize(
        ("total", "native", "fps", "expected"),
        [
            # 80 frames at 8 a second: 10 s
            (80, 8, 0.3, [0, 26, 53, 79]),  # 3 wanted, 4 at least; 79/3 = 26.33
            (80, 8, 1, [0, 9, 18, 26, 35, 44, 53, 61, 70, 79]),  # 10; 79/9 = 8.78
            (80, 8, 2, [0, 5, 11, 16, 21, 26, 32, 37, 42, 47, 53, 58, 63, 68, 74, 79]),  # 20, 16 at most; 79/15 = 5.27
            (80, 8, 4, [0, 5, 11, 16, 21, 26, 32, 37, 42, 47, 53, 58, 63, 68, 74, 79]),  # 40, 16 at most
            # 24 frames at 8 a second: 3 s
            (24, 8, 2, [0, 5, 9, 14, 18, 23]),  # 6; 23/5 = 4.6
            (24, 8, 4, [0, 2, 4, 6, 8, 10, 13, 15, 17, 19, 21, 23]),  # 12; 23/11 = 2.09
            (20, 8, 2, [0, 6, 13, 19]),  # 2.5 s: 5 wanted, 4 is even; 19/3 = 6.33
            # short clips
            (1, 8, 2, [0, 0]),  # the only frame twice
            (2, 8, 2, [0, 1]),
            (3, 8, 2, [0, 2]),  # 4 at least, 3 there are, 2 is even
            (4, 8, 2, [0, 1, 2, 3]),
            (5, 8, 2, [0, 1, 3, 4]),  # 4/3 = 1.33
            (30, 29.97, 2, [0, 10, 19, 29]),  # 2.002 wanted, 4 at least; 29/3 = 9.67
        ],
    )
    def test_by_hand(self, total, native, fps, expected):
        assert frame_indices(total, native, VideoBudget(fps=fps)) == expected

    @given(
        total=st.integers(1, 5000),
        native=st.floats(0.5, 240),
        fps=st.floats(0.01, 60),
        least=st.integers(1, 40),
        more=st.integers(0, 60),
    )
    def test_of_any_clip(self, total, native, fps, least, more):
        budget = VideoBudget(fps=fps, min_frames=least, max_frames=max(2, least + more))
        indices = frame_indices(total, native, budget)
        assert len(indices) % 2 == 0
        assert 2 <= len(indices) <= budget.max_frames
        assert len(indices) >= min(least, total) // 2 * 2
        assert indices == sorted(indices)
        assert indices[0] == 0
        assert indices[-1] == total - 1
        if total > 1:
            assert len(set(indices)) == len(indices)  # no frame twice

    @pytest.mark.parametrize(("total", "fps"), [(0, 8.0), (-1, 8.0), (8, 0.0), (8, math.nan)])
    def test_of_no_clip(self, total, fps):
        with pytest.raises(ValueError, match="frames at"):
            frame_indices(total, fps, VideoBudget())


class TestFittedSize:
    @pytest.mark.parametrize(
        ("height", "width", "expected"),
        [
            # 720 x 1280 into 100,352: scale sqrt(921600/100352) = 3.030; 237.6 and 422.4, down to 28s: 224 x 420
            (720, 1280, (224, 420)),
            (1280, 720, (420, 224)),
            (300, 300, (308, 308)),  # 90,000 fits; 300/28 = 10.7, to the nearest: 11 * 28; 94,864 is still within
            (320, 320, (308, 308)),  # 320/28 = 11.4 -> 308
            (28, 28, (28, 28)),
            (10, 10, (28, 28)),
            (1, 150, (28, 140)),  # a strip is a patch wide; 150/28 = 5.4
        ],
    )
    def test_by_hand(self, height, width, expected):
        assert fitted_size(height, width, PATCH, 128 * 28 * 28) == expected

    @given(
        height=st.integers(1, 8000),
        width=st.integers(1, 8000),
        patch=st.sampled_from([14, 16]),
        tokens=st.integers(1, 2000),
    )
    def test_never_above_the_budget(self, height, width, patch, tokens):
        side = 2 * patch
        if max(height, width) > 200 * min(height, width):
            with pytest.raises(ValueError, match="aspect ratio"):
                fitted_size(height, width, patch, tokens * side * side)
            return
        fitted = fitted_size(height, width, patch, tokens * side * side)
        assert fitted[0] % side == fitted[1] % side == 0
        assert min(fitted) >= side
        assert fitted[0] * fitted[1] <= tokens * side * side

    @given(height=st.integers(200, 4000), width=st.integers(200, 4000))
    def test_keeps_the_aspect_ratio_of_usual_pictures(self, height, width):
        if max(height, width) > 2 * min(height, width):
            return
        fitted = fitted_size(height, width, PATCH, 256 * 28 * 28)
        # each side is at most one patch of 28 off, of 196 at least
        assert fitted[0] / fitted[1] == pytest.approx(height / width, rel=0.3)


class TestFrameRange:
    @pytest.mark.parametrize(
        ("start", "stop", "expected"),
        [
            # 80 frames at 8 a second: 10 s
            (None, None, (0, 79)),
            (2.5, None, (20, 79)),
            (None, 5.0, (0, 40)),
            (0.3, 1.05, (3, 8)),  # ceil(2.4), floor(8.4)
            (-3.0, 99.0, (0, 79)),  # what lies outside the clip is not missed
            (1.0, 1.0, (8, 8)),
        ],
    )
    def test_by_hand(self, start, stop, expected):
        assert frame_range(80, 8, Stretch(start, stop)) == expected

    @pytest.mark.parametrize(("start", "stop"), [(5.0, 4.0), (1.01, 1.02), (99.0, None), (None, -1.0)])
    def test_of_nothing(self, start, stop):
        if stop == -1.0:  # the first frame lies at 0 s
            assert frame_range(80, 8, Stretch(start, stop)) == (0, 0)
            return
        with pytest.raises(ValueError, match="no frame between"):
            frame_range(80, 8, Stretch(start, stop))

    def test_one_frame_is_shown_twice(self):
        assert frame_indices(80, 8, VideoBudget(), Stretch(1.0, 1.1)) == [8, 8]


class TestAsQwenVLUtils:
    """The rule is theirs; the numbers of `verl_care.data.budget` say where we differ."""

    @given(
        total=st.integers(2, 3000),
        native=st.floats(1, 120),
        fps=st.sampled_from([0.5, 1.0, 2.0, 4.0]),
        least=st.integers(1, 8),
        more=st.integers(0, 24),
    )
    def test_number_of_frames(self, total, native, fps, least, more):
        from qwen_vl_utils.vision_process import smart_nframes

        budget = VideoBudget(fps=fps, min_frames=2 * least, max_frames=2 * (least + more))
        limits = {"fps": fps, "min_frames": budget.min_frames, "max_frames": budget.max_frames}
        assert len(frame_indices(total, native, budget)) == smart_nframes(limits, total, native)

    @given(total=st.integers(2, 3000), native=st.floats(1, 60), start=st.floats(-5, 200), length=st.floats(0.01, 300))
    def test_stretch(self, total, native, start, length):
        from qwen_vl_utils.vision_process import calculate_video_frame_range

        stretch = Stretch(start, start + length)
        try:
            theirs = calculate_video_frame_range({"video_start": start, "video_end": start + length}, total, native)
        except ValueError:  # 4. theirs is no stretch of one frame
            try:
                first, last = frame_range(total, native, stretch)
            except ValueError:
                return
            assert first == last
        else:
            assert frame_range(total, native, stretch) == theirs[:2]

    @given(height=st.integers(28, 2200), width=st.integers(28, 2200), patches=st.integers(1, 400))
    def test_size(self, height, width, patches):
        from qwen_vl_utils.vision_process import smart_resize

        budget = patches * 28 * 28
        theirs = smart_resize(height, width, factor=28, min_pixels=28 * 28, max_pixels=budget)
        ours = fitted_size(height, width, PATCH, budget)
        if min(theirs) > 0:  # 3. a strip
            assert ours == theirs

    @pytest.mark.parametrize("size", [(256, 456), (360, 640), (480, 854), (720, 1280), (1080, 1920), (1920, 1080)])
    def test_the_released_size_of_wide_clips(self, size):
        assert fitted_size(*size, PATCH, 128 * 28 * 28) == self.released_size(*size)

    def test_the_released_size_of_a_4_to_3_clip_is_larger(self):
        # 1. scale sqrt(640 * 480 / 100352) = 1.750: 274.3 and 365.8, down to 252 x 364;
        # with 105,369 it is 1.707: 281.1 and 374.8, down to 280 x 364
        assert fitted_size(480, 640, PATCH, 128 * 28 * 28) == (252, 364)
        assert fitted_size(480, 640, PATCH, 105_369) == self.released_size(480, 640) == (280, 364)

    @given(height=st.integers(330, 2200), width=st.integers(330, 2200))
    def test_never_more_than_a_patch_from_the_released_size(self, height, width):
        released, ours = self.released_size(height, width), fitted_size(height, width, PATCH, 128 * 28 * 28)
        assert all(0 <= theirs - mine <= 28 for theirs, mine in zip(released, ours, strict=True))

    @staticmethod
    def released_size(height, width):
        """Its smallest and largest size are 100,352 and 105,369 pixels."""
        from qwen_vl_utils.vision_process import smart_resize

        least = 128 * 28 * 28
        return smart_resize(height, width, factor=28, min_pixels=least, max_pixels=int(least * 1.05))
