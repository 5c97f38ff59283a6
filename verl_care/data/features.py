"""A clip's or image's pixel values, computed once per prompt and not three times per response.

verl 0.9.1 runs the model's processor when it builds a response's prompt, when it has the response scored, and when it
hands the response on (agent_loop.py:318, 967, 868). Only the text differs between these calls, and between the
responses of a group.
"""

from __future__ import annotations

import copy
from typing import Any

import wrapt

from verl_care.data.video import OncePerGroup

# One for each decoded clip that the dataset keeps: 64 clips of the release's size are 1.2 GB of float32.
_CAPACITY = 64


class Once(wrapt.ObjectProxy):
    """An image or video processor of transformers that remembers what it made of its last inputs.

    An input is recognized by being the very same object: the dataset hands a group's responses the frames it decoded
    once. A remembered input is kept alive, so that no other object can take its place in memory.
    """

    def __init__(self, processor: Any):
        super().__init__(processor)
        self._self_results = OncePerGroup(_CAPACITY)

    def __deepcopy__(self, memo: dict) -> Any:
        return copy.deepcopy(self.__wrapped__, memo)  # a copy, here or in another process, remembers nothing

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.__wrapped__.__reduce_ex__(protocol)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        media = kwargs.get("images") if "images" in kwargs else kwargs.get("videos")
        if args or not isinstance(media, list | tuple):
            return self.__wrapped__(*args, **kwargs)
        options = {name: value for name, value in kwargs.items() if value is not media}
        key = (tuple(map(id, media)), repr(sorted(options.items())))
        _, features = self._self_results.get(key, lambda: (list(media), self.__wrapped__(**kwargs)))
        # The caller takes entries out and puts others in.
        return type(features)(dict(features.items()))


def remember_features(processor: Any) -> Any:
    """Let a multimodal processor compute the pixel values of a clip or image once; returns the processor itself.

    A text tokenizer, or a processor that has been through here, is left as it is.
    """
    for part in ("image_processor", "video_processor"):
        found = getattr(processor, part, None)
        if found is not None and not isinstance(found, Once):
            setattr(processor, part, Once(found))
    return processor
