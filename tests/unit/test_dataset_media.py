"""The media of a prompt reach the model as they were sampled; a prompt is decoded once."""

import asyncio
import shutil
import threading
from collections import Counter

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from transformers import Qwen2VLImageProcessor, Qwen2VLVideoProcessor
from verl.utils.tokenizer import build_multimodal_processor_inputs

from recipes.quickstart.model import build_processor
from tests.unit.clips import PATCH, write_clip
from verl_care.data import media
from verl_care.data.dataset import CareDataset
from verl_care.data.decoders import MediaError

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


class TestDataset:
    @pytest.fixture
    def prompt(self, tmp_path, monkeypatch):
        media._library.cache_clear()
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
        media._library.cache_clear()
        for name in ("VIDEO_MAX_PIXELS", "FPS_MAX_FRAMES", "IMAGE_MAX_TOKEN_NUM", "VIDEO_TOTAL_PIXELS"):
            monkeypatch.setenv(name, "2")
        prompt[1]["content"][0] |= {"nframes": 2, "max_pixels": 28 * 28}
        assert self.media(prompt)[1][0][0].shape == expected

    def test_an_unknown_budget_is_not_passed_over(self, prompt):
        with pytest.raises(TypeError, match="maxpixels"):
            self.media(prompt, video={"maxpixels": 1})

    def test_text_only(self):
        assert self.media([{"role": "user", "content": "hello"}]) == (None, None, None)

    @pytest.fixture
    def decodes(self, monkeypatch):
        """Numbers of decodes by the name of the clip."""
        counted, real = Counter(), media.load_clip

        def load_clip(clip, *arguments):
            counted[clip.name] += 1
            return real(clip, *arguments)

        monkeypatch.setattr(media, "load_clip", load_clip)
        return counted

    @staticmethod
    def group(prompts, **config):
        async def ask():
            node = OmegaConf.create(config)
            asked = [CareDataset.process_multi_modal_info(prompt, PATCH, node) for prompt in prompts]
            return await asyncio.gather(*asked)

        return asyncio.run(ask())

    def test_a_group_decodes_once(self, prompt, decodes):
        results = self.group([prompt] * 8)
        assert decodes == {"clip.mp4": 1}
        assert all(videos[0][0] is results[0][1][0][0] for _, videos, _ in results)

    def test_a_later_response_decodes_no_more(self, prompt, decodes):
        for _ in range(3):
            self.media(prompt)
        assert decodes == {"clip.mp4": 1}

    def test_two_budgets_of_one_clip_are_two(self, prompt):
        small = self.media(prompt, video={"max_pixels": 28 * 28})[1][0][0]
        large = self.media(prompt)[1][0][0]
        assert small.shape != large.shape

    def test_two_stretches_of_one_clip_are_two(self, prompt, decodes):
        def stretch(start, stop):
            return [
                {"role": "user", "content": [{**MESSAGES[1]["content"][0], "video_start": start, "video_end": stop}]}
            ]

        results = self.group([stretch(0.0, 1.0), stretch(1.5, 3.0)] * 4)
        assert decodes == {"clip.mp4": 2}
        # 8 frames a second: 0 to 8, and 12 to 23; 4 at least
        assert results[0][1][0][1]["frames_indices"] == [0, 3, 5, 8]
        assert results[1][1][0][1]["frames_indices"] == [12, 16, 19, 23]

    def test_a_clip_that_does_not_decode(self, prompt, tmp_path):
        (tmp_path / "clip.mp4").write_bytes(b"")
        with pytest.raises(MediaError, match=r"clip\.mp4"):
            self.media(prompt)
        write_clip(tmp_path / "clip.mp4")  # and is not held against it
        assert self.media(prompt)[1] is not None

    def test_a_clip_that_is_deleted(self, prompt, tmp_path):
        assert self.media(prompt)[1]
        (tmp_path / "clip.mp4").unlink()
        with pytest.raises(MediaError, match=r"clip .*clip\.mp4: No such file"):
            self.media(prompt)

    def test_a_clip_that_hangs(self, prompt, monkeypatch):
        hangs = threading.Event()
        monkeypatch.setattr(media, "load_clip", lambda *_: hangs.wait(30))
        with pytest.raises(MediaError, match=r"clip clip\.mp4: not decoded in 0\.1 s"):
            self.media(prompt, video={"timeout_s": 0.1})
        hangs.set()

    def test_a_file_system_that_hangs(self, prompt, monkeypatch):
        hangs = threading.Event()
        monkeypatch.setattr(media, "clip_of", lambda _part: hangs.wait(30))
        threading.Timer(0.5, hangs.set).start()  # or asyncio.run waits for its executor
        with pytest.raises(MediaError, match=r"media not found in 0\.1 s"):
            self.media(prompt, video={"timeout_s": 0.1})

    def test_the_event_loop_goes_on_while_clips_decode(self, prompt, monkeypatch):
        ticks, real = [], media.load_clip

        def slow(*arguments):
            assert more_ticks.wait(20)  # it would wait in vain, did it run on the loop
            return real(*arguments)

        more_ticks = threading.Event()
        monkeypatch.setattr(media, "load_clip", slow)

        async def both():
            asked = asyncio.ensure_future(
                CareDataset.process_multi_modal_info(prompt, PATCH, OmegaConf.create({"video": {}}))
            )
            while len(ticks) < 20:
                ticks.append(asked.done())
                await asyncio.sleep(0)
            more_ticks.set()
            return await asked

        assert asyncio.run(both())[1]
        assert not any(ticks)

    def test_batches_of_every_kind(self, prompt, decodes):
        """Image and video, image only, video only, text only, two clips."""
        video, image = MESSAGES[1]["content"][0], MESSAGES[1]["content"][2]
        text = {"type": "text", "text": "What next?"}
        contents = [[video, image, text], [image, text], [video, text], [text], [video, text, video]]
        prompts = [[{"role": "user", "content": content}] for content in contents]
        found = self.group(prompts * 8)
        kinds = [(len(images or ()), len(videos or ())) for images, videos, _ in found]
        assert kinds == [(1, 1), (1, 0), (0, 1), (0, 0), (0, 2)] * 8
        assert decodes == {"clip.mp4": 1}
        for messages, (images, videos, _) in zip(prompts, found[:5], strict=True):
            processor, inputs = self.inputs(messages, images, videos)
            ids = inputs["input_ids"][0].tolist()
            assert ids.count(processor.image_token_id) == 8 * len(images or ())
            assert ids.count(processor.video_token_id) == 18 * len(videos or ())

    def test_memory_stays_within_its_bound(self, prompt, tmp_path):
        # a clip of 6 frames of 56 x 84 is 84,672 bytes, an image of 56 x 112 18,816
        config = {"video": {"memory_gb": 250_000 / 2**30}}
        for number in range(12):
            shutil.copy("clip.mp4", f"clip_{number}.mp4")
            content = [{"type": "video", "video": f"clip_{number}.mp4"}, MESSAGES[1]["content"][2]]
            self.group([[{"role": "user", "content": content}]] * 8, **config)
            memory = media.library(OmegaConf.create(config)).memory
            assert 0 < memory.bytes <= 250_000
        assert memory.bytes == 2 * 84_672 + 18_816  # two clips and the image, which all prompts share

    @pytest.mark.parametrize("positions", ["true", "release"])
    def test_released_positions_are_those_of_a_clip_at_2_fps(self, prompt, positions):
        images, videos, _ = self.media(prompt, video={"fps": 4.0, "temporal_positions": positions})
        assert len(videos[0][0]) == 12  # of 3 s
        _, inputs = self.inputs(prompt, images, videos)
        expected = {"true": 0.5, "release": 1.0}[positions]
        assert [float(value) for value in inputs["second_per_grid_ts"]] == pytest.approx([expected])


class TestCacheOnDisk(TestDataset):
    """Everything above holds with the cache of sampled frames, and a later epoch decodes nothing."""

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path_factory, monkeypatch):
        folder, real = tmp_path_factory.mktemp("cache"), media.VideoSettings
        monkeypatch.setattr(media, "VideoSettings", lambda **node: real(**{"cache_dir": str(folder), **node}))
        return folder

    def later_epoch(self, prompt, **config):
        media._library.cache_clear()  # another process
        return self.media(prompt, **config)[1][0]

    def test_a_later_epoch_decodes_nothing(self, prompt, decodes, folder):
        first = self.media(prompt)[1][0]
        later = self.later_epoch(prompt)
        assert decodes == {"clip.mp4": 1}
        assert torch.equal(first[0], later[0])
        assert first[1] == later[1]
        assert len(list(folder.glob("*.safetensors"))) == 1

    def test_keyed_by_content(self, prompt, decodes, tmp_path):
        self.media(prompt)
        (tmp_path / "clip.mp4").rename(tmp_path / "moved.mp4")
        moved = [{"role": "user", "content": [{"type": "video", "video": "moved.mp4"}]}]
        self.later_epoch(moved)
        assert decodes == {"clip.mp4": 1}
        write_clip(tmp_path / "clip.mp4", frames=16)
        assert self.later_epoch(prompt)[1]["total_num_frames"] == 16

    @pytest.mark.parametrize("other", [{"fps": 1.0}, {"max_frames": 4}, {"max_pixels": 28 * 28}], ids=str)
    def test_and_by_budget(self, prompt, decodes, other):
        self.media(prompt)
        self.later_epoch(prompt, video=other)
        assert decodes == {"clip.mp4": 2}

    def test_positions_are_not_part_of_it(self, prompt, decodes):
        before = self.media(prompt)[1][0][1]
        assert self.later_epoch(prompt, video={"temporal_positions": "release"})[1]["fps"] == 2.0
        assert self.later_epoch(prompt)[1] == before
        assert decodes == {"clip.mp4": 1}

    def test_a_damaged_entry_is_made_anew(self, prompt, decodes, folder):
        first = self.media(prompt)[1][0]
        (entry,) = folder.glob("*.safetensors")
        entry.write_bytes(entry.read_bytes()[:-100])
        assert torch.equal(self.later_epoch(prompt)[0], first[0])
        assert decodes == {"clip.mp4": 2}
        assert torch.equal(self.later_epoch(prompt)[0], first[0])
        assert decodes == {"clip.mp4": 2}
