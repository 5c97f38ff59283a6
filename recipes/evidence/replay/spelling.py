"""Which tokens a recorded text was sampled as: a policy does not always spell as the tokenizer does. ` stir` may have
been ` st` `ir`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

WIDTH = 12  # spellings that are followed
REPLACED = "\N{REPLACEMENT CHARACTER}".encode()  # what a byte that is no UTF-8 was decoded to

LogProbs = Callable[[Sequence[Sequence[int]]], Tensor]
"""Beginnings of a response -> (beginnings, vocabulary): log-probabilities of what comes next."""


def likeliest(
    log_probs: LogProbs,
    pieces: Mapping[int, bytes],
    text: str,
    length: int,
    end: int | None,
    silent: Sequence[int] = (),
) -> list[int] | None:
    """The most probable tokens that are written so and are so many, as a beam of `WIDTH` finds them.

    Args:
        pieces: token -> its bytes.
        length: tokens, the end included.
        end: the token that ended the response; None where it was cut off.
        silent: tokens that a decoded text does not show.

    Returns:
        None where nothing was found.
    """
    longest = max(map(len, pieces.values()))
    beam: list[tuple[float, list[int], bytes]] = [(0.0, [], text.encode())]
    for place in range(length):
        last = place == length - 1
        room = longest * (length - place - 1 - (end is not None and not last))
        longer = []
        for (score, tokens, rest), log_prob_V in zip(beam, log_probs([tokens for _, tokens, _ in beam]), strict=True):
            if last and end is not None:
                ways = [(end, rest)]
            else:
                ways = [*_pieces_of(pieces, rest), *((token, rest) for token in silent)]
            longer += [
                (score + float(log_prob_V[token]), [*tokens, token], left)
                for token, left in ways
                if _letters(left) <= room
            ]
        if not longer:
            return None
        beam = sorted(longer, key=lambda spelled: -spelled[0])[:WIDTH]
    return beam[0][1]


def _letters(rest: bytes) -> int:
    """Bytes that are still to be written; one that was replaced stands for three."""
    return len(rest) - (len(REPLACED) - 1) * rest.count(REPLACED)


def _pieces_of(pieces: Mapping[int, bytes], rest: bytes) -> Iterator[tuple[int, bytes]]:
    """(token, what is left of the text behind it)"""
    hidden = rest.startswith(REPLACED)
    for token, piece in pieces.items():
        if rest.startswith(piece):
            yield token, rest[len(piece) :]
        elif hidden and len(piece) == 1 and piece[0] >= 0x80:
            yield token, rest[len(REPLACED) :]


def pieces_of(tokenizer: Any) -> dict[int, bytes]:
    """The bytes of every token of a byte-level BPE that is not a special one."""
    byte_of = _byte_of_letter()
    special = set(tokenizer.added_tokens_decoder)
    return {
        token: bytes(byte_of[letter] for letter in name)
        for name, token in tokenizer.get_vocab().items()
        if token not in special
    }


def _byte_of_letter() -> dict[str, int]:
    """GPT-2's writing of bytes: printable ones stand for themselves, the others for U+0100 and up, in order."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(0x100) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}
