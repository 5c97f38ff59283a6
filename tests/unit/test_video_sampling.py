"""Which frames of a clip the model sees and how large."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.clips import PATCH
from verl_care.data.video import (
    VideoBudget,
    fitted_size,
    frame_indices,
)


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
