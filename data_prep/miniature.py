"""Write the miniature benchmark: a toy "what next?" world in the file layout of SEED-Bench-R1.

    python -m data_prep.miniature --out data/miniature --seed 0

writes annotations/{training_6k,validation_L1,validation_L2,validation_L3}.jsonl, videos/<source>/*.mp4 (H.264) and
images/<source>/*.png; `data_prep.seed_bench_r1` converts it as it converts the real data set. L1 looks like training,
L2 has unseen looks (background, colours, placement), L3 unseen looks and unseen goals. The same seed gives the same
bytes with the same versions of NumPy, PyAV and Pillow.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.progress import Progress

from data_prep.miniature_world import (
    DOMAINS,
    FPS,
    FRAMES,
    LETTERS,
    SIDE,
    Goal,
    Situation,
    draw_frames,
    draw_situation,
    goals,
)

SOURCE_FRAMES_PER_STEP = 60  # frame numbers in the annotations refer to the long video a clip was cut from
NEAR, FAR = "EpicKitchens", "Ego4D"  # the two sources of SEED-Bench-R1: training and L1, L2 and L3
SPLITS = {"training_6k": NEAR, "validation_L1": NEAR, "validation_L2": FAR, "validation_L3": FAR}


def write_clip(path: Path, frames: NDArray[np.uint8]) -> None:
    """H.264 at a low quantizer, so that the patterns survive.

    The same bytes every time: one thread, no dates in the container, and x264 without assembly, whose wide reads
    past the edge of a frame of 56 pixels made about one clip in three differ between two runs.
    """
    options = {"qp": "14", "preset": "veryfast", "threads": "1", "x264-params": "asm=0"}
    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def progress_metadata(situation: Situation) -> list[dict[str, Any]]:
    first = situation.done - len(situation.shown)
    return [
        {
            "narration_text": step,
            "start_frame": (first + i) * SOURCE_FRAMES_PER_STEP,
            "stop_frame": (first + i + 1) * SOURCE_FRAMES_PER_STEP - 10,
        }
        for i, step in enumerate(situation.shown)
    ]


def row_of(situation: Situation, split: str, number: int, source: str, rng: np.random.Generator) -> dict[str, Any]:
    """One annotation: training rows carry negatives, validation rows four choices, L3 also where it comes from."""
    name = f"{split.removesuffix('_6k')}_{number:05d}"
    row: dict[str, Any] = {
        "sample_id": f"{split}_{number:05d}" if split == "validation_L3" else number,
        "video_source": source,
        "video_id": name,
        "task_goal": situation.goal.text,
        "question": situation.question,
        "answer": situation.answer,
        "current_observation_frame": situation.done * SOURCE_FRAMES_PER_STEP,
        "task_progress_metadata": progress_metadata(situation),
        "video_basename": f"{name}.mp4",
        "current_observation_basename": f"{name}.png",
    }
    if split == "training_6k":
        return row | {"negative_answers": list(situation.wrong)}
    drawn = [situation.wrong[i] for i in rng.permutation(len(situation.wrong))[: len(LETTERS) - 1]]
    options = [situation.answer, *drawn]
    options = [options[i] for i in rng.permutation(len(LETTERS))]
    row |= {f"choice_{letter.lower()}": option for letter, option in zip(LETTERS, options, strict=True)}
    row["golden_choice_idx"] = LETTERS[options.index(situation.answer)]
    if split == "validation_L3":
        domain = DOMAINS[int(rng.integers(len(DOMAINS)))]
        row |= {"domain": domain, "scenario": situation.goal.name, "task_start_frame": 0}
    return row


def write_world(out: Path, seed: int, rows: int, level_rows: int) -> None:
    training_goals, unseen_goals = goals()
    (out / "annotations").mkdir(parents=True, exist_ok=True)
    for source in (NEAR, FAR):
        (out / "videos" / source).mkdir(parents=True, exist_ok=True)
        (out / "images" / source).mkdir(parents=True, exist_ok=True)
    with Progress() as progress:
        for split_number, (split, source) in enumerate(SPLITS.items()):
            rng = np.random.default_rng([seed, split_number])
            among: list[Goal] = unseen_goals if split == "validation_L3" else training_goals
            count = rows if split == "training_6k" else level_rows
            lines = []
            for number in progress.track(range(count), description=split):
                situation = draw_situation(among, rng)
                row = row_of(situation, split, number, source, rng)
                clip, observation = draw_frames(situation, unseen_look=source == FAR)
                if situation.shown:
                    write_clip(out / "videos" / source / row["video_basename"], clip)
                Image.fromarray(observation).save(out / "images" / source / row["current_observation_basename"])
                lines.append(json.dumps(row))
            (out / "annotations" / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=int, default=2400, help="training rows")
    parser.add_argument("--level-rows", type=int, default=256, help="rows of each of L1, L2, L3")
    args = parser.parse_args()
    write_world(args.out, args.seed, args.rows, args.level_rows)
    print(f"{args.rows} training rows, {args.level_rows} a level, {FRAMES} frames of {SIDE} px: {args.out}")


if __name__ == "__main__":
    main()
