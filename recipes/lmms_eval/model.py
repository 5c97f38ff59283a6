"""Qwen2.5-VL for lmms-eval, with the frames and sizes that verl_care trains and evaluates with.

What differs from lmms-eval 0.7.3's `qwen2_5_vl`, whose loading it keeps:

1. Frames by the release's rule (2 a second, 4 to 16), each within its own budget; an image has another one. There one
   number of frames is taken of every clip, and one budget holds for both.
2. No repetition penalty, as nobody's training has one. There the checkpoint's `generation_config.json` decides, and
   Qwen2.5-VL's says 1.05.
3. A clip or image that cannot be read makes an empty response, which counts as wrong. There it ends the run.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.models.model_utils.gen_metrics import log_metrics
from lmms_eval.models.simple.qwen2_5_vl import Qwen2_5_VL
from lmms_eval.protocol import ChatMessages
from loguru import logger
from tqdm import tqdm

from verl_care.data.budget import ImageBudget, VideoBudget
from verl_care.data.media import library, media_items
from verl_care.data.sources import MediaError

PATCH = 14


class CareQwen2_5_VL(Qwen2_5_VL):
    """`--model qwen2_5_vl_care`; one question at a time.

    Args:
        max_num_frames, fps: of a clip.
        max_pixels: of a frame.
        image_max_pixels: of an image.
        more: as for `qwen2_5_vl`.
    """

    is_simple = False

    def __init__(
        self,
        max_num_frames: int = VideoBudget.max_frames,
        fps: float = VideoBudget.fps,
        max_pixels: int = VideoBudget.max_pixels,
        image_max_pixels: int = ImageBudget.max_pixels,
        **more: Any,
    ) -> None:
        more |= {"min_pixels": (2 * PATCH) ** 2, "max_pixels": max(max_pixels, image_max_pixels)}  # never resizes again
        super().__init__(max_num_frames=max_num_frames, fps=fps, **more)
        video = {"fps": fps, "max_frames": max_num_frames, "max_pixels": max_pixels}
        self._media = library({"video": video, "image": {"max_pixels": image_max_pixels}})

    def generate_until(self, requests: Sequence[Instance]) -> list[GenerationResult]:
        """Responses in the order of the requests; an empty one where a clip or image cannot be read."""
        results, started = [], time.time()
        for request in tqdm(requests, desc="Responding", disable=self.rank != 0):
            arguments: Any = request.args
            _, messages_of, settings, doc_id, task, split = arguments
            messages = ChatMessages(messages=messages_of(self.task_dict[task][split][doc_id])).to_hf_messages()
            try:
                inputs = self._inputs(messages)
            except MediaError as error:
                logger.error(f"{task} {doc_id}, counted as wrong: {error}")
                results.append(GenerationResult(text="", token_counts=TokenCounts(output_tokens=0)))
                continue
            tokens = self._generate(inputs, settings)
            text = self.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            results.append(GenerationResult(text=text, token_counts=TokenCounts(output_tokens=len(tokens))))
        seconds, count = time.time() - started, sum(result.token_counts.output_tokens for result in results)
        log_metrics(total_gen_tokens=count, total_elapsed_time=seconds, avg_speed=count / seconds)
        return results

    def _inputs(self, messages: list[dict[str, Any]]) -> Any:
        """Raises:
        MediaError: for a clip or an image that cannot be read.
        """
        clips = [self._media.clip(part, PATCH).result() for part in media_items(messages, "video")]
        images = [self._media.image(part, PATCH).result() for part in media_items(messages, "image")]
        return self.processor(
            text=[self.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)],
            images=images or None,
            videos=[frames for frames, _ in clips] or None,
            video_metadata=[metadata for _, metadata in clips] or None,
            do_sample_frames=False,
            return_tensors="pt",
        ).to(self.model.device)

    def _generate(self, inputs: Any, settings: Mapping[str, Any]) -> torch.Tensor:
        """Token ids of the response; greedy at temperature 0."""
        model: Any = self.model  # transformers' types deny that it generates
        sampled = settings["temperature"] > 0
        chosen = ("temperature", "top_p", "top_k") if sampled else ()
        with torch.inference_mode():
            made = model.generate(
                **inputs,
                do_sample=sampled,
                max_new_tokens=settings["max_new_tokens"],
                repetition_penalty=settings.get("repetition_penalty", 1.0),
                eos_token_id=self.tokenizer.eos_token_id,
                pad_token_id=self.tokenizer.pad_token_id,
                use_cache=self.use_cache,
                **{name: settings.get(name) for name in ("temperature", "top_p", "top_k") if name in chosen},
            )
        return made[0, inputs["input_ids"].shape[1] :]
