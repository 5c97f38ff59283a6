"""How a seam is tested. A failure says which verl it is and what of ours hangs there."""

import inspect
from pathlib import Path

import verl

SITE = Path(verl.__file__).parent


def seam(holds: object, fact: str, ours: str) -> None:
    assert holds, f"verl {verl.__version__}: {fact} no longer holds, on which rests {ours}"


def source(thing: object) -> str:
    return inspect.getsource(thing)  # type: ignore[arg-type]


def in_order(text: str, *parts: str) -> bool:
    """True if every part is in the text, and each first occurs behind the one before."""
    places = [text.find(part) for part in parts]
    return -1 not in places and places == sorted(places)


def parameters(function: object) -> list[str]:
    return list(inspect.signature(function).parameters)  # type: ignore[arg-type]


def unpatched_source(relative: str) -> str:
    return (SITE / relative).read_text()
