"""How many tokens a row's prompt has, from its text and its media's headers.

The model's own processor writes the prompt: its chat template, its placeholders, its timestamps (Qwen3-VL), its
tokenizer. Only the pixels are missing. In place of the processors of images and clips stand two that answer with the
grid that the real ones would make of a picture of that size.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from transformers import BatchFeature, ProcessorMixin
from transformers.video_utils import VideoMetadata
from verl.utils.dataset.rl_dataset import RLHFDataset

from verl_care.data.budget import FRAMES_PER_PATCH, ImageBudget, VideoBudget, fitted_size, frame_indices
from verl_care.data.decoders import MediaError
from verl_care.data.headers import clip_header, image_size
from verl_care.data.marks import MARKS, Columns, mismatch
from verl_care.data.media import media_items
from verl_care.data.sources import File, clip_of, image_of


class UnknownProcessor(ValueError):
    """A model whose grids we do not know how to tell."""


class PromptLength:
    """Prompt lengths of rows for one model and budget: exactly the token ids that verl's rollout makes.

    Supported are the processors of Qwen2-VL, Qwen2.5-VL and Qwen3-VL, whose timestamps are text in the prompt.

    Args:
        columns: where rows have their prompt and media, if not where verl looks by itself.

    Raises:
        UnknownProcessor: for any other.
    """

    def __init__(
        self,
        processor: ProcessorMixin | None,
        video: VideoBudget,
        image: ImageBudget,
        columns: Columns = Columns(),  # noqa: B008 - a tuple
    ) -> None:
        self._real: Any = processor
        self._video, self._image, self._columns = video, image, columns
        self._video_patches = _video_patches(getattr(processor, "video_processor", None))
        self._patch_size = int(self._real.image_processor.patch_size)
        self._blind: Any = copy.copy(processor)
        self._blind.image_processor = _Grids(self._real.image_processor, "image_grid_thw")
        self._blind.video_processor = _Grids(self._real.video_processor, "video_grid_thw")

    def __call__(self, row: Mapping[str, Any]) -> int:
        """Tokens of the prompt of one parquet row, generation prompt included.

        Raises:
            MediaError: for what a row may not name (`clip_of`, `image_of`), another number of media than of marks, a
                header that cannot be read, or a picture of no size that the model takes.
        """
        messages = messages_of(row, self._real, self._columns)
        text = self._real.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        images = [self._image_grid(part) for part in media_items(messages, "image")]
        clips = [self._clip_grid(part) for part in media_items(messages, "video")]
        inputs = self._blind(
            text=[text],
            images=images or None,
            videos=[grid for grid, _ in clips] or None,
            video_metadata=[metadata for _, metadata in clips] or None,
        )
        return len(inputs["input_ids"][0])

    def _image_grid(self, part: dict[str, Any]) -> list[int]:
        image = image_of(part)
        name = f"image {image.path if isinstance(image, File) else 'in a row'}"
        height, width = self._fitted(name, *image_size(image), self._image.max_pixels)
        return [1, int(self._real.image_processor.get_number_of_image_patches(height, width, {})), 1]

    def _clip_grid(self, part: dict[str, Any]) -> tuple[list[int], VideoMetadata]:
        clip = clip_of(part)
        header = clip_header(clip.source, clip.frame_rate, self._video)
        try:
            indices = frame_indices(header.frames, header.fps, self._video, clip.stretch)
        except ValueError as error:
            raise MediaError(f"clip {clip.name}: {error}") from error
        height, width = self._fitted(f"clip {clip.name}", header.height, header.width, self._video.max_pixels)
        times = len(indices) // FRAMES_PER_PATCH
        patches = self._video_patches(len(indices), height, width)
        metadata = VideoMetadata(total_num_frames=header.frames, fps=header.fps, frames_indices=indices)
        return [times, patches // times, 1], metadata

    def _fitted(self, name: str, height: int, width: int, max_pixels: int) -> tuple[int, int]:
        try:
            return fitted_size(height, width, self._patch_size, max_pixels)
        except ValueError as error:
            raise MediaError(f"{name}: {error}") from error


def messages_of(
    row: Mapping[str, Any],
    processor: Any,
    columns: Columns = Columns(),  # noqa: B008 - a tuple
) -> list[dict[str, Any]]:
    """The chat of one parquet row, with its clips and images as parts: verl's own reading of the marks.

    Raises:
        MediaError: if there are not as many media as marks.
    """
    names = {kind: getattr(columns, kind) for kind in MARKS}
    media = {kind: len(row[name] or ()) for kind, name in names.items() if name in row}
    if reason := mismatch(row[columns.prompt], media, columns):
        raise MediaError(reason)
    keys = SimpleNamespace(processor=processor, **{f"{kind}_key": name for kind, name in names.items()})
    build: Any = RLHFDataset._build_messages  # of a data set it asks for these names alone
    return build(keys, copy.deepcopy(dict(row)), columns.prompt)  # it writes into what it is given


class _Grids:
    """Stands for an image or video processor that is given grids instead of pixels."""

    def __init__(self, real: Any, name: str) -> None:
        self.merge_size, self.temporal_patch_size = real.merge_size, real.temporal_patch_size
        self._name = name

    def __call__(self, *, images: Any = None, videos: Any = None, video_metadata: Any = None, **_: Any) -> BatchFeature:
        grids = images if videos is None else videos
        return BatchFeature({self._name: torch.tensor(grids), "video_metadata": video_metadata})


def _video_patches(video_processor: Any) -> Any:
    """(frames, height, width) -> patches of a clip in that processor's own size."""
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor
    from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor

    if isinstance(video_processor, Qwen2VLVideoProcessor):
        return lambda frames, height, width: video_processor.get_num_of_video_patches(frames, height, width, {})
    if isinstance(video_processor, Qwen3VLVideoProcessor):
        return lambda frames, height, width: _qwen3_patches(video_processor, frames, height, width)
    raise UnknownProcessor(
        f"its processor of clips is {type(video_processor).__name__}, and prompt lengths are known for those of "
        "Qwen2-VL, Qwen2.5-VL and Qwen3-VL: set data.filter_overlong_prompts=true instead, which decodes every clip"
    )


def _qwen3_patches(video_processor: Any, frames: int, height: int, width: int) -> int:
    from transformers.models.qwen3_vl.video_processing_qwen3_vl import smart_resize

    height, width = smart_resize(
        frames,
        height,
        width,
        temporal_factor=video_processor.temporal_patch_size,
        factor=video_processor.patch_size * video_processor.merge_size,
        min_pixels=video_processor.size["shortest_edge"],
        max_pixels=video_processor.size["longest_edge"],
    )
    return frames // FRAMES_PER_PATCH * height * width // video_processor.patch_size**2
