"""verl's RL dataset, with our decoding: a prompt's clip and image are decoded once, not once per response."""

from __future__ import annotations

import asyncio
import itertools
import logging
from concurrent.futures import Future
from typing import Any

from omegaconf import DictConfig
from PIL import Image
from verl.utils.dataset.rl_dataset import RLHFDataset

from verl_care.data.marks import Columns, mismatches
from verl_care.data.media import MediaError, MediaLibrary, library, media_items

logger = logging.getLogger(__name__)

BATCH = 4096  # rows whose marks are counted at a time
NAMED = 20  # rows that are left out, in one line of the log


class CareDataset(RLHFDataset):
    """Rows carry paths; pixels are made when a prompt is rolled out, within `data.video` and `data.image`.

    A row that has not as many media as marks is left out, counted and named in the log. verl would train a prompt with
    marks and no media without them, and end the run at any other difference.
    """

    def maybe_filter_out_long_prompts(self, dataframe: Any = None) -> Any:
        """The last thing that verl does to the rows it has read.

        Raises:
            ValueError: if all would have to be left out.
        """
        return super().maybe_filter_out_long_prompts(self._with_their_media(dataframe))

    def _with_their_media(self, dataframe: Any) -> Any:
        columns = Columns(self.prompt_key, self.video_key, self.image_key, self.audio_key)
        asked = dataframe.select_columns([name for name in columns if name in dataframe.column_names])
        batches = asked.with_format("arrow").iter(BATCH)  # as it is stored: pixels in rows are not decoded
        found = itertools.chain.from_iterable(mismatches(batch, columns) for batch in batches)
        wrong = {number: reason for number, reason in enumerate(found) if reason}
        if not wrong:
            return dataframe
        named = "; ".join(f"row {number}: {reason}" for number, reason in itertools.islice(wrong.items(), NAMED))
        more = f"; and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
        files = ", ".join(map(str, self.data_files))
        text = f"{files}: {len(wrong)} of {len(dataframe)} rows have not as many media as marks: {named}{more}"
        if len(wrong) == len(dataframe):
            raise ValueError(f"{text}. Set data.video_key and data.image_key to the columns of clips and images")
        logger.warning("%s. They are left out", text)
        return dataframe.select([number for number in range(len(dataframe)) if number not in wrong])

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
