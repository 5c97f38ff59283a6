"""The media of a prompt reach the model as they were sampled; a prompt is decoded once."""

import asyncio
import shutil

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from transformers import Qwen2VLImageProcessor, Qwen2VLVideoProcessor
from verl.utils.tokenizer import build_multimodal_processor_inputs

from recipes.quickstart.model import build_processor
from tests.unit.clips import PATCH, write_clip
from verl_care.data import dataset, video
from verl_care.data.dataset import CareDataset
from verl_care.data.video import (
    MediaError,
    OncePerGroup,
    media_items,
)

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
