"""The table at the end: verdicts by data set, why some are unknown, and what it cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from verl_care.evaluation.judge.quoting import printable
from verl_care.evaluation.judge.verdict import Reply
from verl_care.evaluation.rows import Measured

CONFIDENCE = 0.95
_HEAD = ("data set", "responses", "consistent", "inconsistent", "unknown", "share", "95 % interval")


@dataclass
class Usage:
    """Replies of one call of the command, and their tokens as the server counts them."""

    asked: int = 0
    cached: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    failures: dict[str, str] = field(default_factory=dict)  # the first of each kind, as the server told it

    def add(self, reply: Reply) -> None:
        self.asked += 1
        self.prompt_tokens += reply.prompt_tokens
        self.completion_tokens += reply.completion_tokens

    def cost(self, price_in: float, price_out: float) -> float:
        """In the currency of the prices, which are per million tokens; what was cached costs nothing again."""
        return (self.prompt_tokens * price_in + self.completion_tokens * price_out) / 1e6

    def __str__(self) -> str:
        told = "".join(f"the first of {why!r}: {first}\n" for why, first in sorted(self.failures.items()))
        return told + (
            f"{self.asked} requests, {self.cached} replies from the cache, "
            f"{self.prompt_tokens} tokens in, {self.completion_tokens} out"
        )


def table(measured: Iterable[Measured]) -> str:
    """Verdicts by data set, and of all together if there are several.

    The share is consistent / (consistent + inconsistent), with Wilson's interval; unknown verdicts stand beside it,
    and bound what it can say.
    """
    by_dataset: dict[str, Counter[float | None]] = {}
    why: Counter[str] = Counter()
    for one in measured:
        by_dataset.setdefault(one.key.dataset, Counter())[one.value] += 1
        if one.value is None:
            why[one.why or "unknown"] += 1
    lines = [_HEAD, *(_line(printable(name, 60), verdicts) for name, verdicts in sorted(by_dataset.items()))]
    if len(by_dataset) > 1:
        lines.append(_line("all", sum(by_dataset.values(), Counter())))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in lines]
    if why:
        text.append("unknown: " + ", ".join(f"{printable(reason, 60)} {count}" for reason, count in why.most_common()))
    return "\n".join(text)


def _line(name: str, verdicts: Counter[float | None]) -> tuple[str, ...]:
    consistent, inconsistent, unknown = verdicts[1.0], verdicts[0.0], verdicts[None]
    judged = consistent + inconsistent
    share, interval = "-", "-"
    if judged:
        from scipy.stats import binomtest

        bounds = binomtest(consistent, judged).proportion_ci(CONFIDENCE, method="wilson")
        share, interval = f"{consistent / judged:.3f}", f"{bounds.low:.3f} .. {bounds.high:.3f}"
    return name, str(judged + unknown), str(consistent), str(inconsistent), str(unknown), share, interval
