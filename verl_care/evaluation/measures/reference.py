"""A reference model on its own: how likely it finds the answers of an evaluation. With transformers, without verl's
engines.

The prompt is the evaluation's: verl's reading of the data row, `verl_care.data`'s frames and pictures, the model's own
chat template and processor. The response is NOT the sampled ids, which an evaluation does not keep: its text is read
anew, as letters, whatever marks of a chat it spells. Where a model sampled an unusual way of cutting its text into
tokens, the likelihood is that of the usual one.

Shapes: `_N` responses of a batch, `_L` tokens of the longest, `_A` answer tokens of all, `_T` of the longest answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from verl_care import compat
from verl_care.algorithm.consistency import answer_likelihood
from verl_care.algorithm.spans import answer_span, span_mask
from verl_care.data.dataset import ask
from verl_care.data.decoders import MediaError
from verl_care.data.marks import Columns
from verl_care.data.media import library
from verl_care.data.prompt_length import messages_of
from verl_care.evaluation.measures.folder import MEDIA, NO_RESPONSE
from verl_care.evaluation.rows import Measured, Row

_PIXELS = ("pixel_values", "pixel_values_videos")
_GRIDS = ("image_grid_thw", "video_grid_thw")
_SECONDS = "second_per_grid_ts"


class Asked(NamedTuple):
    """An answered question, and the row of the data that it was asked from."""

    row: Row
    source: Mapping[str, Any]


class Begun(NamedTuple):
    """The same, while its media are decoded."""

    messages: list[dict[str, Any]]
    images: list[Future]
    clips: list[Future]
    response: list[int]
    span: tuple[int, int]  # of the answer, over the response


@dataclass(frozen=True)
class Answered:
    """A prompt and its response as the model reads them."""

    ids_L: Tensor
    kinds_L: Tensor  # transformers' mm_token_type_ids
    media: dict[str, Tensor]
    answer: tuple[int, int]  # [start, stop) over ids_L


class Reference:
    """A Hugging Face folder or name, in bfloat16 on a GPU and in float32 on a CPU."""

    def __init__(self, path: str, device: str, settings: Mapping[str, Any], columns: Columns):
        """Load it.

        Args:
            settings: of the evaluation, see `verl_care.evaluation.generate.settings`.
            columns: where the data's rows have their prompt and media.

        Raises:
            ValueError: for a model that has no processor of images and clips.
        """
        compat.mend_positions()
        from transformers import AutoModelForImageTextToText
        from verl.utils import hf_processor

        dtype = torch.float32 if device == "cpu" else torch.bfloat16
        loaded: Any = AutoModelForImageTextToText.from_pretrained(path, dtype=dtype)
        self._model: Any = loaded.to(device).eval()
        self._processor: Any = hf_processor(path)
        if self._processor is None:
            raise ValueError(f"{path} has no processor of images and clips, so it cannot be shown what was asked about")
        self._tokenizer: Any = self._processor.tokenizer
        self._media, self._columns = library(_media_settings(settings)), columns
        self._template = settings.get("data.apply_chat_template_kwargs") or {}
        self._processing = settings.get("data.mm_processor_kwargs") or {}

    def measure(self, batch: Sequence[Asked]) -> list[Measured]:
        """The geometric-mean likelihood of each answer; None, with why, where there is none or its media fail."""
        begun = [self._begin(asked) for asked in batch]  # all of a batch's clips decode at once
        ended = [one if isinstance(one, str) else self._end(one) for one in begun]
        likelihoods = iter(self._likelihoods([one for one in ended if isinstance(one, Answered)]))
        return [
            Measured(asked.row.key, None, one) if isinstance(one, str) else Measured(asked.row.key, next(likelihoods))
            for asked, one in zip(batch, ended, strict=True)
        ]

    def _begin(self, asked: Asked) -> Begun | str:
        """The response's tokens and the media as they are asked for; or why there is no likelihood."""
        if asked.row.response is None:
            return NO_RESPONSE
        # Letters, whatever marks of a chat they spell.
        ids = self._tokenizer(asked.row.response, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        span = answer_span([self._tokenizer.decode([token], skip_special_tokens=True) for token in ids])
        if span is None:
            return "no answer"
        messages = messages_of(asked.source, self._processor, self._columns)
        try:
            images, clips = ask(self._media, messages, self._processor.image_processor.patch_size)
        except MediaError as error:
            return _media_reason(error)
        return Begun(messages, images, clips, ids, span)

    def _end(self, begun: Begun) -> Answered | str:
        from verl.utils.tokenizer import build_multimodal_processor_inputs

        try:
            images, clips = ([future.result() for future in kind] for kind in (begun.images, begun.clips))
        except MediaError as error:
            return _media_reason(error)
        text = self._processor.apply_chat_template(
            begun.messages, tokenize=False, add_generation_prompt=True, **self._template
        )
        inputs = build_multimodal_processor_inputs(
            self._processor,
            text=[text],
            images=images or None,
            videos=clips or None,
            mm_processor_kwargs={**self._processing, "return_mm_token_type_ids": True},
        )
        prompt_L, kinds_L = inputs["input_ids"][0], inputs["mm_token_type_ids"][0]
        response_L = torch.tensor(begun.response, dtype=prompt_L.dtype)
        start, stop = (len(prompt_L) + place for place in begun.span)
        return Answered(
            ids_L=torch.cat([prompt_L, response_L]),
            kinds_L=torch.cat([kinds_L, torch.zeros_like(response_L)]),
            media={name: torch.as_tensor(inputs[name]) for name in (*_PIXELS, *_GRIDS, _SECONDS) if name in inputs},
            answer=(start, stop),
        )

    @torch.inference_mode()
    def _likelihoods(self, answered: Sequence[Answered]) -> list[float]:
        if not answered:
            return []
        device = self._model.device
        ids_NL = pad_sequence([one.ids_L for one in answered], batch_first=True)
        kinds_NL = pad_sequence([one.kinds_L for one in answered], batch_first=True)
        there_NL = pad_sequence([torch.ones_like(one.ids_L) for one in answered], batch_first=True)
        media = {
            name: torch.cat([one.media[name] for one in answered if name in one.media])
            for name in (*_PIXELS, *_GRIDS, _SECONDS)
            if any(name in one.media for one in answered)
        }
        timing = {name: value for name, value in media.items() if name not in _PIXELS}
        positions_3NL, _ = self._model.model.get_rope_index(
            ids_NL, mm_token_type_ids=kinds_NL, attention_mask=there_NL, **timing
        )
        hidden_NLH = self._model.model(
            input_ids=ids_NL.to(device),
            attention_mask=there_NL.to(device),
            position_ids=positions_3NL.to(device),
            use_cache=False,
            **{name: value.to(device) for name, value in media.items() if name != _SECONDS},
        ).last_hidden_state
        # A vocabulary of logits for the answers' tokens alone: each is told at the place before it.
        sizes = [stop - start for start, stop in (one.answer for one in answered)]
        row_A = torch.arange(len(answered)).repeat_interleave(torch.tensor(sizes))
        place_A = torch.cat([torch.arange(*one.answer) for one in answered])
        logits_AV = self._model.get_output_embeddings()(hidden_NLH[row_A.to(device), place_A.to(device) - 1])
        target_A = ids_NL[row_A, place_A].to(device)
        log_prob_A = logits_AV.float().log_softmax(-1).gather(1, target_A[:, None])[:, 0].cpu()
        log_prob_NT = pad_sequence(list(log_prob_A.split(sizes)), batch_first=True)
        mask_NT = span_mask([(0, size) for size in sizes], log_prob_NT.shape[1])
        return answer_likelihood(log_prob_NT, mask_NT).tolist()


def _media_settings(settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The `data` node that the evaluation had: frames and pixels."""
    return {
        kind: {
            key.removeprefix(f"data.{kind}."): value
            for key, value in settings.items()
            if key.startswith(f"data.{kind}.") and value is not None
        }
        for kind in ("video", "image")
    }


def _media_reason(error: MediaError) -> str:
    return f"{MEDIA}{' '.join(str(error).split())}"
