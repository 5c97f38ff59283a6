"""The toy world of the miniature benchmark: words, recipes, looks and pixels. No files are touched here.

A recipe is five of twelve actions in order. A clip shows the last two or three steps done so far (one where only one
is), each as a 4 x 4 bit pattern on a work surface; the question names the recipe's steps, so that the next step is READ
off the question (the step after the last one shown) and an unseen goal is no harder in principle.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ACTIONS = ("fill", "heat", "pour", "stir", "chop", "peel", "wash", "fry", "mix", "bake", "cut", "serve")
ADJECTIVES = ("red", "green", "blue", "hot", "cold", "sweet", "sour", "fresh")
DISHES = ("soup", "tea", "cake", "salad", "stew", "pie", "toast", "juice")
LETTERS = ("A", "B", "C", "D")
LEVELS = ("L1", "L2", "L3")
DOMAINS = ("daily life", "hobbies", "recreation", "work")  # the four of SEED-Bench-R1's L3

SIDE = 56  # pixels: 4 x 4 patches of 14, 2 x 2 visual tokens
FRAMES = 8
FPS = 2  # sampled at 2 fps every frame is taken, and a temporal patch (two frames) lasts exactly one second
RECIPE_STEPS = 5
GLYPH = SIDE // 2  # a pattern fills a quadrant, which is one visual token
NO_PROGRESS_SHARE = 0.08
TRAINING_GOALS = 48  # of 64; the other 16 appear in L3 only

TRAINING_BACKGROUNDS = ((20, 20, 30), (40, 30, 20), (25, 45, 30))
TRAINING_COLOURS = ((230, 200, 60), (220, 220, 220), (120, 220, 230))
UNSEEN_BACKGROUNDS = ((60, 20, 60), (20, 60, 70), (70, 60, 10))
UNSEEN_COLOURS = ((240, 120, 120), (140, 240, 120), (230, 150, 240))
TRAINING_QUADRANTS, UNSEEN_QUADRANT = (0, 1, 2), 3


@dataclass(frozen=True)
class Goal:
    name: str
    steps: tuple[str, ...]

    @property
    def text(self) -> str:
        return f"make {self.name}: {', '.join(self.steps)}"


@dataclass(frozen=True)
class Situation:
    """One question: how far a recipe has come, and how it looks."""

    goal: Goal
    done: int  # the next step is goal.steps[done]
    shown: tuple[str, ...]  # the last steps done, oldest first; empty: no progress, no video
    wrong: tuple[str, ...]  # negatives: the recipe's other steps, then some of the remaining actions
    look_seed: int

    @property
    def answer(self) -> str:
        return self.goal.steps[self.done]

    @property
    def question(self) -> str:
        return f"What next to {self.goal.text}?"


def goals() -> tuple[list[Goal], list[Goal]]:
    """(training goals, unseen goals): the world itself, so not a matter of the caller's seed."""
    rng = np.random.default_rng(11)
    every: list[Goal] = []
    taken: set[tuple[str, ...]] = set()
    for adjective in ADJECTIVES:
        for dish in DISHES:
            while (steps := tuple(ACTIONS[i] for i in rng.permutation(len(ACTIONS))[:RECIPE_STEPS])) in taken:
                pass
            taken.add(steps)
            every.append(Goal(f"{adjective} {dish}", steps))
    order = rng.permutation(len(every))
    return [every[i] for i in order[:TRAINING_GOALS]], [every[i] for i in order[TRAINING_GOALS:]]


def draw_situation(among: list[Goal], rng: np.random.Generator) -> Situation:
    goal = among[rng.integers(len(among))]
    done = 0 if rng.random() < NO_PROGRESS_SHARE else int(rng.integers(1, RECIPE_STEPS))
    visible = min(done, int(rng.integers(2, 4)))
    inside = [s for s in goal.steps if s != goal.steps[done]]
    outside = [a for a in ACTIONS if a not in goal.steps]
    wrong = [inside[i] for i in rng.permutation(len(inside))] + [outside[i] for i in rng.permutation(len(outside))[:2]]
    return Situation(goal, done, goal.steps[done - visible : done], tuple(wrong), int(rng.integers(2**31)))


def glyphs() -> dict[str, NDArray[np.int64]]:
    """A 4 x 4 pattern per action: 8 bits on, any two differ in at least 6."""
    rng = np.random.default_rng(7)
    found: list[NDArray[np.int64]] = []
    while len(found) < len(ACTIONS):
        bits = np.zeros(16, np.int64)
        bits[rng.permutation(16)[:8]] = 1
        if all((bits != other).sum() >= 6 for other in found):
            found.append(bits)
    return {action: bits.reshape(4, 4) for action, bits in zip(ACTIONS, found, strict=True)}


def draw_frames(situation: Situation, unseen_look: bool) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """(clip (FRAMES, SIDE, SIDE, 3), current observation (SIDE, SIDE, 3)); the observation is the cleared surface.

    Steps share the frames evenly in pairs, because two frames make one temporal patch of Qwen2.5-VL.
    """
    rng = np.random.default_rng(situation.look_seed)
    backgrounds = UNSEEN_BACKGROUNDS if unseen_look else TRAINING_BACKGROUNDS
    colours = UNSEEN_COLOURS if unseen_look else TRAINING_COLOURS
    background = np.array(backgrounds[rng.integers(len(backgrounds))], np.float32)
    colour = np.array(colours[rng.integers(len(colours))], np.float32)
    quadrant = UNSEEN_QUADRANT if unseen_look else TRAINING_QUADRANTS[rng.integers(len(TRAINING_QUADRANTS))]
    top, left = SIDE // 2 * (quadrant // 2), SIDE // 2 * (quadrant % 2)
    pixels = np.empty((FRAMES + 1, SIDE, SIDE, 3), np.float32)
    pixels[:] = background
    if situation.shown:
        patterns = glyphs()
        schedule = {1: (0, 0, 0, 0), 2: (0, 0, 1, 1), 3: (0, 1, 2, 2)}[len(situation.shown)]
        for frame in range(FRAMES):
            bits = np.kron(patterns[situation.shown[schedule[frame // 2]]], np.ones((GLYPH // 4, GLYPH // 4)))
            pixels[frame, top : top + GLYPH, left : left + GLYPH] = np.where(bits[..., None] > 0, colour, background)
    pixels += rng.normal(0, 3, pixels.shape)
    drawn = pixels.clip(0, 255).astype(np.uint8)
    return drawn[:FRAMES], drawn[FRAMES]
