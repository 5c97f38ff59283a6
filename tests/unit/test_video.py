"""Which frames of a clip the model sees and how large; what cannot be decoded is named; a prompt is decoded once."""

import asyncio
import importlib
import math
import shutil
import threading
import time
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from PIL import Image
from transformers import Qwen2VLImageProcessor, Qwen2VLVideoProcessor
from verl.utils.tokenizer import build_multimodal_processor_inputs

from recipes.quickstart.model import build_processor
from verl_care.data import dataset, video
from verl_care.data.dataset import CareDataset
from verl_care.data.video import (
    ImageBudget,
    MediaError,
    OncePerGroup,
    VideoBudget,
    fitted_size,
    frame_indices,
    load_image,
    load_video,
    media_items,
)

PATCH = 14


def why_no_torchcodec() -> str:
    try:
        importlib.import_module("torchcodec.decoders")
    except (ImportError, OSError, RuntimeError) as error:
        return f"torchcodec does not load here (no FFmpeg?): {str(error).splitlines()[0]}"
    return ""


NEEDS_TORCHCODEC = pytest.mark.skipif(bool(why_no_torchcodec()), reason=why_no_torchcodec() or "it loads")
DECODERS = [
    pytest.param(video.pyav, id="pyav"),
    pytest.param(video.torchcodec, id="torchcodec", marks=NEEDS_TORCHCODEC),
]


@pytest.fixture(params=DECODERS)
def decoder(request, monkeypatch):
    monkeypatch.setattr(video, "_decoder", lambda: request.param)
    return request.param


def write_clip(path, frames=24, fps=8, width=64, height=48, codec="mpeg4"):
    """Frame i is grey of level 10 * i, so that decoded frames tell their number."""
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream(codec, rate=fps, options={"qscale": "1"} if codec == "mpeg4" else {"crf": "0"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(frames):
            picture = np.full((height, width, 3), 10 * number % 256, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return str(path)


def write_sound(path):
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 16000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    return str(path)


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


class TestOncePerGroup:
    def test_many_askers_one_computation(self):
        cache, calls, everybody_asked = OncePerGroup(capacity=4), [], threading.Event()

        def compute():
            calls.append(threading.get_ident())
            assert everybody_asked.wait(20)
            return object()

        results = []
        askers = [threading.Thread(target=lambda: results.append(cache.get("key", compute))) for _ in range(16)]
        for asker in askers:
            asker.start()
        while not calls:
            time.sleep(0.001)
        everybody_asked.set()
        for asker in askers:
            asker.join(20)
        assert len(calls) == 1
        assert len(results) == 16
        assert len(set(map(id, results))) == 1
        assert cache.get("key", compute) is results[0]

    def test_different_keys_do_not_wait_for_each_other(self):
        cache, second = OncePerGroup(capacity=4), threading.Event()
        first = threading.Thread(target=lambda: cache.get("first", lambda: second.wait(20)))
        first.start()
        assert cache.get("second", lambda: "at once") == "at once"
        assert first.is_alive()
        second.set()
        first.join(20)

    def test_an_error_reaches_all_who_asked_and_is_not_kept(self):
        cache, started, go_on = OncePerGroup(capacity=4), threading.Event(), threading.Event()
        errors = []

        def fail():
            started.set()
            assert go_on.wait(20)
            raise MediaError("clip a.mp4: broken")

        def ask():
            try:
                cache.get("key", fail)
            except MediaError as error:
                errors.append(str(error))

        first = threading.Thread(target=ask)
        first.start()
        assert started.wait(20)
        others = [threading.Thread(target=cache_get_and_collect, args=(cache, errors)) for _ in range(5)]
        for other in others:
            other.start()
        future = cache._results["key"]
        while len(future._condition._waiters) < 5:  # all of them wait for the first
            time.sleep(0.001)
        go_on.set()
        for asker in (first, *others):
            asker.join(20)
        assert errors == ["clip a.mp4: broken"] * 6
        assert cache.get("key", lambda: "mended") == "mended"

    def test_the_longest_unused_goes_first(self):
        cache, calls = OncePerGroup(capacity=2), []

        def get(key):
            return cache.get(key, lambda: calls.append(key))

        for key in ("a", "b", "a", "c", "a", "b"):
            get(key)
        # a, b computed; a found; c pushes b out; a found; b again
        assert calls == ["a", "b", "c", "b"]

    def test_an_error_of_one_pushed_out_does_not_take_its_successor_along(self):
        cache = OncePerGroup(capacity=1)

        def fail_late():
            cache.get("other", lambda: 0)  # pushes "key" out
            cache.get("key", lambda: "newer")
            raise MediaError("older")

        with pytest.raises(MediaError):
            cache.get("key", fail_late)
        assert cache.get("key", lambda: "again") == "newer"


def cache_get_and_collect(cache, errors):
    try:
        cache.get("key", lambda: "never called")
    except MediaError as error:
        errors.append(str(error))


MESSAGES = [
    {"role": "system", "content": "You are a helpful assistant."},
    {
        "role": "user",
        "content": [
            {"type": "video", "video": "clip.mp4"},
            {"type": "text", "text": "and now"},
            {"type": "image", "image": "now.png"},
            {"type": "text", "text": " What next?"},
        ],
    },
]


def test_media_in_reading_order():
    assert [part["video"] for part in media_items(MESSAGES, "video")] == ["clip.mp4"]
    assert [part["image"] for part in media_items(MESSAGES * 2, "image")] == ["now.png", "now.png"]
    assert media_items([{"role": "user", "content": None}, {"role": "user"}], "image") == []


class TestDataset:
    @pytest.fixture
    def prompt(self, tmp_path, monkeypatch):
        monkeypatch.setattr(dataset, "_MEDIA", OncePerGroup(capacity=8))
        monkeypatch.chdir(tmp_path)
        write_clip(tmp_path / "clip.mp4", width=84, height=56)  # 24 frames at 8 a second, whole patches
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (56, 112, 3), dtype=np.uint8)).save("now.png")
        return MESSAGES

    @staticmethod
    def media(prompt, **config):
        return asyncio.run(CareDataset.process_multi_modal_info(prompt, PATCH, OmegaConf.create(config)))

    @staticmethod
    def processor():
        """Of Qwen2.5-VL-7B-Instruct's limits, 4 to 16384 tokens a picture."""
        processor = build_processor()
        limits = {"min_pixels": 4 * 28 * 28, "max_pixels": 16384 * 28 * 28}
        processor.image_processor = Qwen2VLImageProcessor(patch_size=PATCH, merge_size=2, **limits)
        processor.video_processor = Qwen2VLVideoProcessor(patch_size=PATCH, merge_size=2, **limits)
        return processor

    def inputs(self, prompt, images, videos):
        processor = self.processor()
        text = processor.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
        return processor, build_multimodal_processor_inputs(processor, text=[text], images=images, videos=videos)

    def test_the_model_gets_exactly_these_frames(self, prompt):
        images, videos, audio = self.media(prompt)
        assert audio is None
        processor, inputs = self.inputs(prompt, images, videos)
        frames, metadata = videos[0]
        assert metadata["frames_indices"] == [0, 5, 9, 14, 18, 23]
        assert inputs["video_grid_thw"].tolist() == [[3, 4, 6]]  # 6 frames in pairs, 56 / 14, 84 / 14
        assert inputs["image_grid_thw"].tolist() == [[1, 4, 8]]

        ids = inputs["input_ids"][0].tolist()
        assert ids.count(processor.video_token_id) == 3 * 4 * 6 // 4
        assert ids.count(processor.image_token_id) == 4 * 8 // 4

        # untouched: normalised and cut into patches, no pixel is another
        video_processor = processor.video_processor
        mean, deviation = (
            torch.tensor(stat).view(3, 1, 1) for stat in (video_processor.image_mean, video_processor.image_std)
        )
        expected = ((frames / 255 - mean) / deviation).double()
        found = inputs["pixel_values_videos"].double()
        assert found.numel() == expected.numel()
        assert torch.allclose(found.flatten().sort().values, expected.flatten().sort().values, atol=1e-5)
        # the first patch is the upper left corner of the first two frames
        corner = expected[:2, :, :14, :14].permute(1, 0, 2, 3).flatten()
        assert torch.allclose(found[0], corner, atol=1e-5)

    @pytest.mark.parametrize(
        ("fps", "seconds"),
        [
            (0.3, 1.5),  # 3 s: 0.9 wanted, 4 frames at least; one every 3/4 s, two a patch
            (1.0, 1.5),  # 3 wanted, 4 at least
            (2.0, 1.0),  # 6 frames; one every 1/2 s
            (4.0, 0.5),  # 12 frames
        ],
    )
    def test_seconds_per_patch_in_time(self, prompt, fps, seconds):
        images, videos, _ = self.media(prompt, video={"fps": fps})
        _, inputs = self.inputs(prompt, images, videos)
        assert [float(value) for value in inputs["second_per_grid_ts"]] == pytest.approx([seconds])

    def test_budgets_come_from_the_configuration(self, prompt):
        config = {"video": {"fps": 4.0, "max_frames": 8, "max_pixels": 28 * 28}, "image": {"max_pixels": 28 * 56}}
        images, videos, _ = self.media(prompt, **config)
        assert videos[0][0].shape == (8, 3, 28, 28)
        assert images[0].size == (56, 28)

    def test_and_from_nowhere_else(self, prompt, monkeypatch):
        # qwen-vl-utils reads limits from the environment, and from the message
        expected = self.media(prompt)[1][0][0].shape
        dataset._MEDIA = OncePerGroup(capacity=8)
        for name in ("VIDEO_MAX_PIXELS", "FPS_MAX_FRAMES", "IMAGE_MAX_TOKEN_NUM", "VIDEO_TOTAL_PIXELS"):
            monkeypatch.setenv(name, "2")
        prompt[1]["content"][0] |= {"nframes": 2, "max_pixels": 28 * 28}
        assert self.media(prompt)[1][0][0].shape == expected

    def test_an_unknown_budget_is_not_passed_over(self, prompt):
        with pytest.raises(TypeError, match="maxpixels"):
            self.media(prompt, video={"maxpixels": 1})

    def test_text_only(self):
        assert self.media([{"role": "user", "content": "hello"}]) == (None, None, None)

    def test_a_group_decodes_once(self, prompt, monkeypatch):
        calls = []
        real = video.load_video
        monkeypatch.setattr(dataset, "load_video", lambda *arguments: calls.append(1) or real(*arguments))

        async def group():
            config = OmegaConf.create({})
            return await asyncio.gather(
                *(CareDataset.process_multi_modal_info(prompt, PATCH, config) for _ in range(8))
            )

        results = asyncio.run(group())
        assert len(calls) == 1
        assert all(videos[0][0] is results[0][1][0][0] for _, videos, _ in results)

    def test_two_budgets_of_one_clip_are_two(self, prompt):
        small = self.media(prompt, video={"max_pixels": 28 * 28})[1][0][0]
        large = self.media(prompt)[1][0][0]
        assert small.shape != large.shape

    def test_a_clip_that_does_not_decode(self, prompt, tmp_path):
        shutil.copy("now.png", "clip.mp4")
        (tmp_path / "clip.mp4").write_bytes(b"")
        with pytest.raises(MediaError, match=r"clip\.mp4"):
            self.media(prompt)
        write_clip(tmp_path / "clip.mp4")  # and is not held against it
        assert self.media(prompt)[1] is not None
