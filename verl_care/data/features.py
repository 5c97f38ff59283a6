"""A clip's or image's pixel values, computed once per prompt and not three times per response.

verl 0.9.1 runs the model's processor when it builds a response's prompt, when it has the response scored, and when it
hands the response on (agent_loop.py:318, 967, 868). Only the text differs between these calls, and between the
responses of a group.
"""

from __future__ import annotations

import copy
from concurrent.futures import Future
from typing import Any

import wrapt
from PIL import Image

from verl_care.data.memory import MemoryCache

CAPACITY = 256 << 20
"""Bytes that one rollout worker remembers, of clips and images together, with the frames they were made of: eleven
clips of the release's size, which have 19 MB of pixel values and 5 MB of frames each."""


class Once(wrapt.ObjectProxy):
    """An image or video processor of transformers that remembers what it made of its last inputs.

    An input is recognized by being the very same object: the dataset hands a group's responses the frames it decoded
    once. A remembered input is kept alive, so that no other object can take its place in memory.

    Args:
        results: where it remembers; other processors may share it.
    """

    def __init__(self, processor: Any, results: MemoryCache):
        super().__init__(processor)
        self._self_results = results

    def __deepcopy__(self, memo: dict) -> Any:
        return copy.deepcopy(self.__wrapped__, memo)  # a copy, here or in another process, remembers nothing

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.__wrapped__.__reduce_ex__(protocol)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        media = kwargs.get("images") if "images" in kwargs else kwargs.get("videos")
        if args or not isinstance(media, list | tuple):
            return self.__wrapped__(*args, **kwargs)
        options = {name: value for name, value in kwargs.items() if value is not media}
        key = (id(self), tuple(map(id, media)), repr(sorted(options.items())))
        made: list[Future] = []  # one entry, if nobody has made it or is making it
        future = self._self_results.get(key, lambda: made.append(Future()) or made[0])
        if made:
            try:
                made[0].set_result((list(media), self.__wrapped__(**kwargs)))
            except Exception as error:  # noqa: BLE001 - every asker gets it from `result`
                made[0].set_exception(error)
        _, features = future.result()
        # The caller takes entries out and puts others in.
        return type(features)(dict(features.items()))


def _bytes(result: tuple[list[Any], Any]) -> int:
    """Of the features, and of the frames: the dataset may have let go of these."""
    frames, features = result
    return sum(map(_size, (*frames, *features.values())))


def _size(value: Any) -> int:
    if isinstance(value, Image.Image):
        return value.width * value.height * len(value.getbands())
    return getattr(value, "nbytes", 0)  # of tensors and arrays; what else there is are settings


def remember_features(processor: Any) -> Any:
    """Let a multimodal processor compute the pixel values of a clip or image once; returns the processor itself.

    Beyond `CAPACITY` the longest unused are forgotten, and computed again if they are asked for. A text tokenizer, or a
    processor that has been through here, is left as it is.
    """
    results = MemoryCache(CAPACITY, _bytes)
    for part in ("image_processor", "video_processor"):
        found = getattr(processor, part, None)
        if found is not None and not isinstance(found, Once):
            setattr(processor, part, Once(found, results))
    return processor
