"""A Qwen2.5-VL of one million parameters with its own tokenizer, for the miniature benchmark.

The architecture, the processor and the chat template are Qwen2.5-VL's; only the sizes and the words are ours. The
tokenizer has Qwen's pre-tokenisation, so `<answer>B</answer>` is `<` `answer` `>B` `</` `answer` `>` as in Qwen.
"""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
)
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX, Qwen2Tokenizer
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

from data_prep.miniature_world import ACTIONS, ADJECTIVES, DISHES, LETTERS, SIDE

SPECIAL_TOKENS = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
# Words at the start of a line, and words behind a space; the latter are other tokens to a byte-level BPE.
BARE_WORDS = ("system", "user", "assistant", "You", "What", "Options", "think", "answer", ":\n", "</", ">\n")
SPACED_WORDS = ("are", "a", "helpful", "assistant", "next", "to", "make", "seen", "nothing", "so", "</")

ROPE_THETA = 1e6  # Qwen2.5-VL's; slow rotations are what words are matched by
HIDDEN, LAYERS, HEADS, KEY_VALUE_HEADS, MLP = 128, 4, 4, 2, 256
VISION_HIDDEN, VISION_LAYERS, VISION_HEADS = 64, 2, 2

# Head of the first layer -> tokens back: from an option to its letter (`A` `.` ` pour`) and from a step to the one
# before (` pour` `,` ` stir`); one back; from `answer` to the conclusion (` pour` ` </` `think` `>` `<` `answer`).
LOOK_BACK = {0: 2, 1: 1, 2: 5}
LOOK_BACK_STRENGTH = 5.5
COPYING_HEAD, COPYING_GAIN = 2, 0.3

# Qwen2.5-VL's, to the letter.
CHAT_TEMPLATE = (
    "{% set image_count = namespace(value=0) %}{% set video_count = namespace(value=0) %}{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "{% endif %}<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}{{ message['content'] }}"
    "<|im_end|>\n{% else %}{% for content in message['content'] %}{% if content['type'] == 'image' or 'image' in "
    "content or 'image_url' in content %}{% set image_count.value = image_count.value + 1 %}{% if add_vision_id %}"
    "Picture {{ image_count.value }}: {% endif %}<|vision_start|><|image_pad|><|vision_end|>{% elif content['type'] == "
    "'video' or 'video' in content %}{% set video_count.value = video_count.value + 1 %}{% if add_vision_id %}"
    "Video {{ video_count.value }}: {% endif %}<|vision_start|><|video_pad|><|vision_end|>{% elif 'text' in content %}"
    "{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build_tokenizer() -> Qwen2Tokenizer:
    """Byte-level BPE with Qwen's pre-tokenisation: any text can be written, the toy world's words are one token."""
    words = [*BARE_WORDS, *(f">{letter}" for letter in LETTERS)]
    words += [f" {word}" for word in (*SPACED_WORDS, *ACTIONS, *ADJECTIVES, *DISHES)]
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.NFC()
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trained.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=4096,  # a ceiling: merging stops when every word above is one token
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    trained.train_from_iterator([word for word in words for _ in range(2)], trainer)
    trained.add_special_tokens(SPECIAL_TOKENS)
    tokenizer = Qwen2Tokenizer(
        tokenizer_object=trained, unk_token="<|endoftext|>", eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def build_processor() -> Qwen2_5_VLProcessor:
    size: dict[str, Any] = {"patch_size": 14, "temporal_patch_size": 2, "merge_size": 2}
    size |= {"min_pixels": 28 * 28, "max_pixels": SIDE * SIDE}
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(**size),
        tokenizer=build_tokenizer(),
        video_processor=Qwen2VLVideoProcessor(**size),
        chat_template=CHAT_TEMPLATE,
    )


@torch.no_grad()
def look_back(model: Qwen2_5_VLForConditionalGeneration) -> None:
    """Start three heads of the first layer looking a fixed number of tokens back, by their biases alone.

    Copying circuits (a word's letter, a step's successor) need such heads, and finding them is what takes long from a
    random start. Query and key biases of cosine form: the score of a key d tokens back peaks at d = the offset.
    """
    attention: Any = model.model.language_model.layers[0].self_attn
    size, pairs = HIDDEN // HEADS, HIDDEN // HEADS // 2
    frequency = ROPE_THETA ** (-torch.arange(pairs) / pairs)
    strength = torch.where(torch.arange(pairs) < pairs // 2, LOOK_BACK_STRENGTH, 0.0)
    for group in range(KEY_VALUE_HEADS):
        attention.k_proj.bias[group * size : group * size + pairs] = strength
    for head, offset in LOOK_BACK.items():
        attention.q_proj.bias[head * size : head * size + pairs] = strength * torch.cos(frequency * offset)
        attention.q_proj.bias[head * size + pairs : (head + 1) * size] = -strength * torch.sin(frequency * offset)
    head, group = COPYING_HEAD, COPYING_HEAD * KEY_VALUE_HEADS // HEADS
    copied = torch.nn.init.orthogonal_(torch.empty(size, HIDDEN))  # a projection: what is copied stays itself
    attention.v_proj.weight[group * size : (group + 1) * size] = copied
    attention.o_proj.weight[:, head * size : (head + 1) * size] = COPYING_GAIN * copied.T


def build_model(tokenizer: Qwen2Tokenizer, seed: int) -> Qwen2_5_VLForConditionalGeneration:
    token = {name: tokenizer.get_vocab()[name] for name in SPECIAL_TOKENS}
    head_pairs = HIDDEN // HEADS // 2
    mrope_section = [head_pairs // 4, 3 * head_pairs // 8, 3 * head_pairs // 8]
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),  # not rounded up: a row without a token could be sampled
            "hidden_size": HIDDEN,
            "intermediate_size": MLP,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "num_key_value_heads": KEY_VALUE_HEADS,
            "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-6,
            "tie_word_embeddings": False,
            "initializer_range": 0.04,
            "rope_parameters": {"rope_type": "default", "mrope_section": mrope_section, "rope_theta": ROPE_THETA},
            "bos_token_id": token["<|endoftext|>"],
            "eos_token_id": token["<|im_end|>"],
            "pad_token_id": token["<|endoftext|>"],
            "use_sliding_window": False,
        },
        vision_config={
            "depth": VISION_LAYERS,
            "hidden_size": VISION_HIDDEN,
            "intermediate_size": 2 * VISION_HIDDEN,
            "num_heads": VISION_HEADS,
            "in_channels": 3,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "tokens_per_second": 2,
            "window_size": 112,
            "out_hidden_size": HIDDEN,
            "fullatt_block_indexes": [VISION_LAYERS - 1],
            "initializer_range": 0.04,
        },
        image_token_id=token["<|image_pad|>"],
        video_token_id=token["<|video_pad|>"],
        vision_start_token_id=token["<|vision_start|>"],
        vision_end_token_id=token["<|vision_end|>"],
        tie_word_embeddings=False,
    )
    torch.manual_seed(seed)
    model = Qwen2_5_VLForConditionalGeneration(config).float()
    look_back(model)
    model.generation_config.eos_token_id = token["<|im_end|>"]
    model.generation_config.pad_token_id = token["<|endoftext|>"]
    return model
