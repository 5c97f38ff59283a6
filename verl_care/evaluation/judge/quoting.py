"""Hostile text as data: JSON in one line, of which nothing that stands in the text can find the end.

JSON leaves it open which characters are written as `\\uXXXX`. Here it is every one that could mean something to
somebody on the way to the model:

* `"` and `\\`: between two raw quotation marks stands one text, even for a reader who knows no escapes;
* `< > [ ] { } |` and the backtick: special tokens (`<|im_end|>`, `[INST]`, `</think>`), markup, fences, other JSON.
  A chat template puts a message between special tokens as it is, and a tokenizer finds them anywhere in it;
* line ends and other control characters, white space but the blank;
* what is not seen: format characters (bidirectional, zero width, tags), variation selectors, fillers;
* what is not text: private use, surrogates, unassigned;
* what a tokenizer's normalisation (NFKC) makes one of these, such as a full-width bracket.

Letters, marks, digits and punctuation of all languages stay as they are, so that a judge can read them. The encoding
loses nothing: `json.loads` gives back the text.

What it does not do: it cannot keep a model from believing what it reads. `docs/evaluation.md` says how that is seen.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence

_PLAIN_ASCII = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,:;!?'()+-*/=%_#@$^~&"  # no " \ < > [ ] { } | `
)
# Letters and marks by category, yet nothing is to be seen of them: text can hide in them.
_UNSEEN = (
    (0x034F, 0x034F), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F), (0x3164, 0x3164),
    (0xFE00, 0xFE0F), (0xFFA0, 0xFFA0), (0xE0100, 0xE01EF),
)  # fmt: skip


def quote(fields: Mapping[str, str | Sequence[str]]) -> str:
    """A JSON object in one line, of texts and lists of texts, each character of a text escaped if it is not plain.

    Args:
        fields: the names are ours and are written as they are; the values are anybody's.
    """
    return "{" + ", ".join(f'"{name}": {_value(value)}' for name, value in fields.items()) + "}"


def printable(text: str, limit: int = 300) -> str:
    """What somebody else wrote, as one short line for a terminal: no control or unseen character acts there."""
    shown = "".join(c if c.isprintable() else " " for c in text[: limit + 1])
    return shown if len(shown) <= limit else shown[:limit] + "..."


def _value(value: str | Sequence[str]) -> str:
    if isinstance(value, str):
        return f'"{value.translate(_ESCAPES)}"'
    return "[" + ", ".join(map(_value, value)) + "]"


def _is_plain(character: str) -> bool:
    if character.isascii():
        return character in _PLAIN_ASCII
    if any(first <= ord(character) <= last for first, last in _UNSEEN):
        return False
    return unicodedata.category(character)[0] in "LMNP"


class _Escapes(dict[int, str]):
    """Code point -> what is written for it; `str.translate` asks for each once."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        if all(map(_is_plain, character + unicodedata.normalize("NFKC", character))):
            written = character
        elif character == "\n":
            written = "\\n"
        elif code < 0x10000:
            written = f"\\u{code:04x}"
        else:  # JSON writes these as two surrogates
            high, low = divmod(code - 0x10000, 0x400)
            written = f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
        self[code] = written
        return written


_ESCAPES = _Escapes()
