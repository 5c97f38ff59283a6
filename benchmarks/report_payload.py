"""A payload of the report's page, made up: drawn clips, invented reasoning, and rewards by the real arithmetic."""

from __future__ import annotations

import base64
import io
import math
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from verl_care.algorithm.advantage import group_advantage
from verl_care.algorithm.consistency import answer_likelihood, consistency_bonus
from verl_care.report.payload import SCHEMA, Group, Payload, Question, Response, Run

ACTIONS = ("peel the onion", "grab the knife", "rinse the bowl", "open the drawer", "stir the pan", "pour the milk")
THOUGHTS = (
    "The clip begins with a hand that reaches for the counter, where a board and two bowls stand.",
    "In the next frames the bowl is moved to the left, and the tap runs for a moment.",
    "The task asks for the step that follows, so what was finished already can be left out.",
    "In the last frame nothing has been cut yet, and the knife still lies beside the sink.",
    "One could first think of the stove, but nobody has touched it so far.",
    "The narration would then go on with the ingredients and not with the tools.",
)
LEVELS = ("L1", "L2", "L3")
FRAMES = 8
MARGIN = 0.01


def make(
    groups: int = 120, size: int = 8, runs: int = 2, steps: int = 60, questions: int = 40, seed: int = 0
) -> Payload:
    """`groups` groups of `size` responses, spread over the runs and their steps; a question comes again and again."""
    draw = np.random.default_rng(seed)
    clips = min(questions, 24)
    images = [picture(c, f) for c in range(clips) for f in range(FRAMES + 1)]
    names = ["care", "grpo", *(f"care_seed_{n}" for n in range(2, runs))][:runs]
    asked = [question(number, number % clips) for number in range(questions)]
    return {
        "schema": SCHEMA,
        "title": " and ".join(names) if runs < 3 else f"{names[0]} and {runs - 1} more",
        "made": "2026-11-21T14:00:00Z",
        "live": False,
        "runs": [run(name, index, steps, draw) for index, name in enumerate(names)],
        "published": [
            {"metric": "accuracy", "dataset": f"seed_bench_r1/{level}", "method": method, "value": value}
            for method, values in (("CARE", (0.570, 0.570, 0.534)), ("GRPO", (0.523, 0.532, 0.467)))
            for level, value in zip(LEVELS, values, strict=True)
        ],
        "questions": asked,
        "groups": [
            group(
                n * runs // groups, 1 + (n * runs % groups) * steps // groups, n % questions, asked, size, steps, draw
            )
            for n in range(groups)
        ],
        "images": images,
        "notes": [],
    }


def run(name: str, index: int, steps: int, draw: np.random.Generator) -> Run:
    at = np.arange(1, steps + 1)
    risen = 1 - np.exp(-at / steps * 3)

    def curve(start: float, end: float, noise: float) -> dict[str, Any]:
        values = start + (end - start) * risen + draw.normal(0, noise, steps)
        return {"steps": at.tolist(), "values": [round(float(v), 4) for v in values]}

    better = 0.05 * (index == 0)
    metrics = {
        "care/accuracy": curve(0.42, 0.66 + better, 0.05),
        "care/format": curve(0.7, 0.99, 0.01),
        "care/bonus_rate": curve(0.6, 0.55 + better, 0.06),
        "care/likelihood_mean": curve(0.55, 0.78 + 2 * better, 0.03),
        "care/consistency_contradiction": curve(0.62, 0.7 + 3 * better, 0.04),
        "care/consistency_agreement": curve(0.55, 0.68 + 3 * better, 0.04),
        "response_length/mean": curve(180, 240, 8),
        "actor/ppo_kl": curve(0, 3e-4, 2e-5),
        "actor/entropy": curve(0.9, 0.4, 0.02),
        "training/rollout_probs_diff_mean": curve(3e-4, 4e-4, 3e-5),
        "training/rollout_probs_diff_max": curve(0.02, 0.03, 0.004),
        "timing_s/step": curve(40, 44, 2),
        "timing_s/gen": curve(18, 21, 1),
        "timing_s/ref": curve(4, 4, 0.2),
        "timing_s/update_actor": curve(14, 15, 0.5),
        "timing_s/update_weights": curve(1.2, 1.2, 0.1),
    }
    every = at[9::10]
    distance = [round(0.002 * math.sqrt(step), 5) for step in every.tolist()]
    metrics["care/reference_distance"] = {"steps": every.tolist(), "values": distance}
    return {
        "name": name,
        "folder": f"runs/{name}",
        "config": {
            "care.bonus": "none" if name == "grpo" else "hard",
            "care.consistency_margin": MARGIN,
            "care.confidence_upper_bound": 0.95,
            "care.reference": "ema",
            "data.train_batch_size": 4,
            "data.video.max_frames": 16,
            "actor_rollout_ref.actor.optim.lr": 1e-6,
            "actor_rollout_ref.rollout.n": 8,
            "actor_rollout_ref.model.path": "Qwen/Qwen2.5-VL-7B-Instruct",
            "trainer.total_training_steps": steps,
            "trainer.experiment_name": name,
        },
        "metrics": metrics,  # type: ignore[typeddict-item]
        "validation": [
            {
                "step": step,
                "dataset": f"seed_bench_r1/{level}",
                "questions": 256,
                "values": {
                    "accuracy": round(0.4 - 0.04 * n + (0.14 + better) * step / steps, 4),
                    "format": round(0.7 + 0.29 * step / steps, 4),
                    "consistency_contradiction": round(0.6 + (0.1 + 3 * better) * step / steps, 4),
                },
            }
            for step in range(0, steps + 1, max(1, steps // 4))
            for n, level in enumerate(LEVELS)
        ],
    }


def question(number: int, clip: int) -> Question:
    goal = ACTIONS[number % len(ACTIONS)]
    options = [ACTIONS[(number + n) % len(ACTIONS)] for n in (1, 2, 0, 4)]
    text = f"Considering the progress shown in the video and my current observation, what comes next to {goal}?"
    listed = [f"{letter}. {option}" for letter, option in zip("ABCD", options, strict=True)]
    first = clip * (FRAMES + 1)
    return {
        "key": f"seed_bench_r1/{LEVELS[number % 3]}/{number}",
        "data_source": f"seed_bench_r1/{LEVELS[number % 3]}",
        "id": str(number),
        "problem_type": "multiple choice",
        "question": text,
        "prompt": f"<video><image>{text}\nOptions:\n" + "\n".join(listed) + "\nThink first, then answer.",
        "options": listed,
        "truth": "ABCD"[number * 7 % 4],
        "tags": {"domain": "kitchen"},
        "clips": [
            {
                "path": f"videos/EpicKitchens/P{clip:02}_101.mp4",
                "frames": [{"image": first + f, "time": 0.25 + 0.5 * f} for f in range(FRAMES)],
                "reason": None,
            }
        ],
        "images": [{"path": f"images/EpicKitchens/P{clip:02}_101.png", "image": first + FRAMES, "reason": None}],
    }


def group(
    run: int, step: int, asked: int, questions: list[Question], size: int, steps: int, draw: np.random.Generator
) -> Group:
    """Responses of random answers, likelier right at later steps; likelihood, bonus and advantage as in training."""
    question, skill = questions[asked], 0.3 + 0.5 * step / steps
    texts, concluded, given = [], [], []
    for _ in range(size):
        letter = question["truth"] if draw.random() < skill else "ABCD"[draw.integers(4)]
        concludes = letter if draw.random() < 0.75 else "ABCD"[draw.integers(4)]
        thoughts = " ".join(THOUGHTS[i] for i in draw.integers(len(THOUGHTS), size=draw.integers(3, 12)))
        last = question["options"]["ABCD".index(concludes)][3:]
        texts.append(f"<think>{thoughts} So the next step is to {last}.</think>\n<answer>{letter}</answer>")
        concluded.append(concludes == letter)
        given.append(letter)
    cut_N, formless_N = draw.random(size) < 0.03, draw.random(size) < 0.04
    texts = [text[: len(text) // 2] if cut else text for text, cut in zip(texts, cut_N, strict=True)]
    answered_N = torch.from_numpy(~cut_N)
    log_prob_N = torch.tensor([-abs(draw.normal(0, 0.12)) if so else -abs(draw.normal(0, 1.1)) for so in concluded])
    accuracy_N = torch.tensor([float(letter == question["truth"]) for letter in given]) * answered_N
    format_N = torch.from_numpy(~(cut_N | formless_N)).float()
    likelihood_N = answer_likelihood(log_prob_N[:, None], answered_N[:, None])
    method = "none" if run == 1 else "hard"
    result = consistency_bonus(accuracy_N, likelihood_N, [0] * size, bonus=method, consistency_margin=MARGIN)
    reward_N = accuracy_N + format_N + result.bonus_N
    advantage_N = group_advantage(reward_N, [0] * size)

    def response(n: int) -> Response:
        answer = None if cut_N[n] else {"start": texts[n].rindex("<answer>") + 8, "stop": len(texts[n]) - 9}
        contradiction = None if cut_N[n] else float(concluded[n])
        judge = None if cut_N[n] else float(concluded[n] ^ bool(draw.random() < 0.1))
        return {
            "text": texts[n],
            "cut": 0,
            "length": len(texts[n]) // 4,
            "finish": "length" if cut_N[n] else "stop",
            "accuracy": float(accuracy_N[n]),
            "format": float(format_N[n]),
            "likelihood": float(likelihood_N[n]) if answer else None,
            "selected": bool(result.selected_N[n]),
            "bonus": float(result.bonus_N[n]),
            "reward": float(reward_N[n]),
            "advantage": float(advantage_N[n]),
            "answer": answer,  # type: ignore[typeddict-item]
            "answer_tokens": [{"text": f">{given[n]}", "log_prob": float(log_prob_N[n])}] if answer else [],
            "measures": {"contradiction": contradiction, "judge-model-v1": judge},
        }

    threshold = float(result.threshold_N[0])
    return {
        "run": run,
        "step": step,
        "question": asked,
        "threshold": None if math.isnan(threshold) else threshold,
        "split": "train",
        "responses": [response(n) for n in range(size)],
    }


def picture(clip: int, frame: int) -> str:
    """A frame of an invented clip: a disc that moves over a table."""
    image = Image.new("RGB", (208, 117), ((60 + 37 * clip) % 200, (90 + 53 * clip) % 180, (120 + 29 * clip) % 200))
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 78, 208, 117), fill=(150, 118, 84))
    x = 12 + 19 * frame
    pen.ellipse((x, 56, x + 34, 90), fill=((200 + 91 * clip) % 256, (170 + 67 * clip) % 256, 90))
    pen.rectangle((150, 40, 190, 80), fill=(220, 220, 214))
    data = io.BytesIO()
    image.save(data, "WEBP", quality=60)
    return f"data:image/webp;base64,{base64.b64encode(data.getvalue()).decode()}"
