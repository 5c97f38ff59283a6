"""Where the answer of a response is: in its text, and in its tokens.

A response is scored on the same block that it is judged on: the FIRST `<answer>` that is followed by an `</answer>`,
up to the first such `</answer>`.

Deviations from the release (`get_thinking_answer_masks` in `trainer/grpo_trainer_ref_ema.py`):

1. The release judges the first closed block but scores the last `<answer>`. Here both are the first closed block.
2. The release ends the answer three tokens before the end of the turn, so that the mask runs on into any text behind
   the block and drops real answer tokens of a block that is not closed. Here the answer ends at its own `</answer>`.
3. The release gives a response without an answer an empty mask, hence likelihood exp(0) = 1 and a bonus for nothing.
   Here there is no span, and no span means not eligible.
4. The release looks for the token `answer` between a `<` and a `>`. Here the tags are found in the joined text, so that
   every way of cutting it into tokens works.

Shapes: `_N` responses, `_T` response tokens.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

OPEN, CLOSE = "<answer>", "</answer>"


def answer_block(text: str) -> tuple[int, int] | None:
    """`[start, stop)` of what stands between the tags of the first closed answer block of `text`; None without one.

    The same block as the first match of `<answer>(.*?)</answer>`: when the first `<answer>` has no `</answer>` behind
    it, no later one has either, so two searches are enough and the time is linear.
    """
    tag = text.find(OPEN)
    if tag < 0:
        return None
    start = tag + len(OPEN)
    stop = text.find(CLOSE, start)
    return None if stop < 0 else (start, stop)


def answer_span(token_texts: Sequence[str]) -> tuple[int, int] | None:
    """`[start, stop)` over the tokens of a response that hold its answer; None where it has none.

    The convention is the release's, which Qwen's tokenizer suggests: `<answer>A</answer>` is cut into
    `<` `answer` `>A` `</` `answer` `>`, letter and bracket in one token, so the bracket belongs to the answer.

    * The span starts at the token that holds the closing bracket of `<answer>`. If that token reaches back into the tag
      and holds nothing of the answer (`<answer>` as one special token, `answer>`, `<answer>\\n`), the span starts
      behind it.
    * It stops before the token in which `</answer>` begins (`</`, ` </`, `></`), unless that token also holds the end
      of the answer (`A</`), which then belongs to it. White space around an answer is not part of it.

    Args:
        token_texts: the response's tokens, each decoded by itself. Half a character that decodes to U+FFFD, and tokens
            that decode to nothing, do no harm: only the ASCII tags have to survive.

    Returns:
        None without a closed block, and for a block that is empty or white space; else a span of at least one token.
    """
    text = "".join(token_texts)
    block = answer_block(text)
    if block is None:
        return None
    content = text[block[0] : block[1]]
    answer = content.strip()
    if not answer:
        return None
    bracket, tag_end = block[0] - 1, block[1]
    answer_start = block[0] + len(content) - len(content.lstrip())
    answer_stop = answer_start + len(answer)

    # ends[t] is where token t ends in the text, so the first t with ends[t] > c holds character c.
    ends = list(accumulate(map(len, token_texts)))

    first = bisect_right(ends, bracket)
    reaches_back = ends[first] - len(token_texts[first]) < bracket
    if reaches_back and ends[first] <= answer_start:
        first += 1

    last = bisect_right(ends, tag_end)
    holds_answer = ends[last] - len(token_texts[last]) < answer_stop
    return first, last + 1 if holds_answer else last


def span_mask(spans: Sequence[tuple[int, int] | None], length: int) -> Tensor:
    """Spans as the bool mask `answer_mask_NT`: True on `[start, stop)`, a row of False where the span is None.

    Args:
        spans: one span, or None, for each response.
        length: T, the padded length of the responses.

    Raises:
        ValueError: a span that is empty or does not fit into `length`.
    """
    import torch

    for row, span in enumerate(spans):
        if span is not None and not 0 <= span[0] < span[1] <= length:
            raise ValueError(
                f"spans[{row}] is {span}, which is no non-empty span of {length} tokens: "
                "`length` must be the padded response length and the spans must count response tokens"
            )
    bounds_N2 = torch.tensor([span or (0, 0) for span in spans], dtype=torch.long).reshape(-1, 2)
    position_T = torch.arange(length)
    return (position_T >= bounds_N2[:, :1]) & (position_T < bounds_N2[:, 1:])
