"""verl's RL dataset, with our decoding: a prompt's clip and image are decoded once, not once per response."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import Any

from omegaconf import DictConfig
from PIL import Image
from verl.utils.dataset.rl_dataset import RLHFDataset

from verl_care.data.media import MediaError, MediaLibrary, library, media_items


class CareDataset(RLHFDataset):
    """Rows carry paths; pixels are made when a prompt is rolled out, within `data.video` and `data.image`."""

    @classmethod
    async def process_multi_modal_info(
        cls, messages: list[dict], image_patch_size: int, config: DictConfig
    ) -> tuple[list[Image.Image] | None, list[Any] | None, None]:
        """The images and videos of one prompt; the event loop neither decodes nor looks a file up.

        Raises:
            MediaError: if a file cannot be decoded, or not in time; verl then marks this prompt's rollout as failed.
        """
        media = library(config)
        loop = asyncio.get_running_loop()
        asked = loop.run_in_executor(None, ask, media, messages, image_patch_size)
        try:
            futures = await asyncio.wait_for(asked, media.video.timeout_s)
        except asyncio.TimeoutError as error:
            raise MediaError(
                f"media not found in {media.video.timeout_s:g} s: does their file system answer?"
            ) from error
        images, videos = [await asyncio.gather(*map(asyncio.wrap_future, kind)) for kind in futures]
        return images or None, videos or None, None

    @classmethod
    def _process_multi_modal_info(
        cls, messages: list[dict], image_patch_size: int, config: DictConfig
    ) -> tuple[list[Image.Image] | None, list[Any] | None, None]:
        """The same for verl's own length filter, which waits. None where a prompt has none, as verl expects."""
        images, videos = ask(library(config), messages, image_patch_size)
        return [image.result() for image in images] or None, [video.result() for video in videos] or None, None


def ask(media: MediaLibrary, messages: list[dict], patch_size: int) -> tuple[list[Future], list[Future]]:
    """Ask for a prompt's images and videos, in reading order; nothing is waited for."""
    images = [media.image(part, patch_size) for part in media_items(messages, "image")]
    videos = [media.clip(part, patch_size) for part in media_items(messages, "video")]
    return images, videos
