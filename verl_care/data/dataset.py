"""verl's RL dataset, with our decoding: a prompt's clip and image are decoded once, not once per response."""

from __future__ import annotations

import asyncio
from typing import Any

from omegaconf import DictConfig
from PIL import Image
from verl.utils.dataset.rl_dataset import RLHFDataset

from verl_care.data.video import ImageBudget, OncePerGroup, VideoBudget, load_image, load_video, media_items

# A group's G requests arrive together, so few clips suffice; a bound keeps host memory flat.
_MEDIA = OncePerGroup(capacity=64)


class CareDataset(RLHFDataset):
    """Rows carry paths; pixels are made when a prompt is rolled out, within `data.video` and `data.image`."""

    @classmethod
    async def process_multi_modal_info(
        cls, messages: list[dict], image_patch_size: int, config: DictConfig
    ) -> tuple[list[Image.Image] | None, list[Any] | None, None]:
        """The images and videos of one prompt, decoded off the event loop."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, cls._process_multi_modal_info, messages, image_patch_size, config)

    @classmethod
    def _process_multi_modal_info(
        cls, messages: list[dict], image_patch_size: int, config: DictConfig
    ) -> tuple[list[Image.Image] | None, list[Any] | None, None]:
        """Images and videos in reading order; None where a prompt has none, as verl expects.

        Raises:
            MediaError: if a file cannot be decoded; verl then marks this prompt's rollout as failed.
        """
        image_budget = ImageBudget(**(config.get("image") or {}))
        video_budget = VideoBudget(**(config.get("video") or {}))
        images = [
            _MEDIA.get(
                (part["image"], image_budget, image_patch_size),
                lambda path=part["image"]: load_image(path, image_budget, image_patch_size),
            )
            for part in media_items(messages, "image")
        ]
        videos = [
            _MEDIA.get(
                (part["video"], video_budget, image_patch_size),
                lambda path=part["video"]: load_video(path, video_budget, image_patch_size),
            )
            for part in media_items(messages, "video")
        ]
        return images or None, videos or None, None
