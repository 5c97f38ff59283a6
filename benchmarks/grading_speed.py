"""How long hostile responses of a megabyte take to grade.

    python benchmarks/grading_speed.py [--bytes N]

Two sizes each: linear time grows fourfold from one to the other, quadratic time sixteenfold. `judge` is `has_format`,
`extract_answer` and a multiple-choice `grade` together.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

from verl_care.algorithm.spans import answer_span
from verl_care.evaluation.scoring.lenient import lenient_number, option_letter
from verl_care.rewards.grading import extract_answer, grade, has_format

TRUTH = "open the drawer and take the pan out"
OPTIONS = ("A. open the drawer", "B. take the pan out")


def filled(piece: str, size: int) -> str:
    return piece * (size // len(piece))


def answered(piece: str, size: int) -> str:
    return f"<think>so</think><answer>{filled(piece, size)}</answer>"


def judge(response: str) -> None:
    has_format(response)
    extract_answer(response)
    grade("multiple choice", response, "A")


CASES: dict[str, tuple[Callable[[int], str], Callable[[str], object]]] = {
    "judge <answer>...": (lambda size: filled("<answer>", size), judge),
    "judge <think>...": (lambda size: filled("<think>", size), judge),
    "judge <think></think>...</answer>": (lambda size: f"<think>{filled('</think>', size)}</answer>", judge),
    "judge </think> and blanks": (lambda size: f"<think></think>{' ' * size}</answer>", judge),
    "judge answer of <answer>...": (lambda size: answered("<answer>", size), judge),
    "span of <answer> tokens": (
        lambda size: filled("<answer>", size),
        lambda r: answer_span(["<answer>"] * (len(r) // 8)),
    ),
    "OCR of words": (lambda size: answered("open the pan ", size), lambda r: grade("OCR", r, TRUTH)),
    "free-form of words": (lambda size: answered("open the pan ", size), lambda r: grade("free-form", r, TRUTH)),
    "free-form of letters": (lambda size: answered("a ", size), lambda r: grade("free-form", r, TRUTH)),
    "free-form of one word": (lambda size: answered("y", size), lambda r: grade("free-form", r, TRUTH)),
    "free-form of long words": (lambda size: answered("y" * 499 + " ", size), lambda r: grade("free-form", r, TRUTH)),
    "numerical of digits": (lambda size: answered("1", size), lambda r: grade("numerical", r, "1")),
    "math of braces": (lambda size: answered("{", size), lambda r: grade("math", r, "1")),
    "regression of decimals": (
        lambda size: "<answer>0." + filled("3", size) + "</answer>",
        lambda r: grade("regression", r, "0.3"),
    ),
    "lenient letter of answers": (
        lambda size: filled("the answer is (B), ", size),
        lambda r: option_letter(r, OPTIONS),
    ),
    "lenient letter of open tags": (lambda size: filled("<answer>", size), lambda r: option_letter(r, OPTIONS)),
    "lenient letter of accents": (
        lambda size: answered("\u0301\u0323", size),
        lambda r: option_letter(r, OPTIONS),
    ),
    "lenient number of digits": (lambda size: answered("1 ", size), lenient_number),
}


def milliseconds(function: Callable[[str], object], response: str) -> float:
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        function(response)
        best = min(best, time.perf_counter() - start)
    return best * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bytes", type=int, default=1_000_000)
    size = parser.parse_args().bytes

    grade("free-form", "<answer>warm</answer>", "up")
    grade("OCR", "<answer>warm</answer>", "up")
    print(f"{'case':36} {size // 4:>9,} B {size:>11,} B   growth")
    for name, (make, function) in CASES.items():
        small, large = milliseconds(function, make(size // 4)), milliseconds(function, make(size))
        print(f"{name:36} {small:8.2f} ms {large:10.2f} ms {large / small:8.1f}")


if __name__ == "__main__":
    main()
