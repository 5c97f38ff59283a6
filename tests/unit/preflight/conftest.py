"""Data in the real layout, a run's configuration on them, and `python -m recipes.preflight` as a function."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep.miniature import write_clip, write_world
from recipes.preflight import __main__ as preflight
from tests.unit.preflight.test_memory import qwen
from verl_care.doctor.finding import FAIL

ROOT = Path(__file__).parents[3]
KINDS = ["multiple choice", "numerical", "OCR", "free-form", "regression"]


@pytest.fixture(scope="package")
def data(tmp_path_factory):
    """Both data sets in their own layout, and what data_prep makes of them."""
    root = tmp_path_factory.mktemp("data")
    write_world(root / "world", seed=0, rows=8, level_rows=3)
    prepare("data_prep.seed_bench_r1", root / "world", root / "seed_bench_r1")
    write_clip(root / "clip.mp4", np.zeros((8, 56, 56, 3), dtype=np.uint8))
    Image.new("RGB", (56, 84)).save(root / "picture.png")
    for name, kinds in (("Video-R1-260k", KINDS), ("eval_mmvu", ["multiple choice"])):
        annotations = [annotation(number, kind) for number, kind in enumerate(kinds * 2)]
        (root / f"{name}.json").write_text(json.dumps(annotations))
    prepare("data_prep.video_r1", root, root / "video_r1")
    return root


def annotation(number, kind):
    """A row of Video-R1's files."""
    clip = kind in ("multiple choice", "regression")
    return {
        "problem_id": number,
        "problem": f"Question {number}?",
        "data_type": "video" if clip else "image",
        "problem_type": kind,
        "options": ["A. yes", "B. no"] if kind == "multiple choice" else [],
        "solution": "<answer>A</answer>" if kind == "multiple choice" else "<answer>3</answer>",
        "path": "./clip.mp4" if clip else "./picture.png",
        "data_source": "made up",
    }


def prepare(module, root, out):
    command = [sys.executable, "-m", module, root, "--out", out]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def run(data, monkeypatch, capfd):
    """(exit status, findings by subject, what was printed), without the doctor: test_doctor.py has it."""

    def run(recipe, *overrides, folder=data, doctor=False):
        monkeypatch.setenv("VERL_CARE_DATA", str(folder))
        found = []
        examine = preflight.examine
        monkeypatch.setattr(preflight, "examine", lambda check: found.append(examine(check)) or found[-1])
        if not doctor:
            monkeypatch.setattr(preflight, "CHECKS", ())
        status = preflight.main([recipe, *overrides, "--sample", "3"])
        return status, {finding.subject: finding for finding in found if finding.status == FAIL}, capfd.readouterr().out

    return run


@pytest.fixture(scope="package")
def big_model(tmp_path_factory):
    """Qwen2.5-VL-7B's config.json, which is all that sizes need."""
    folder = tmp_path_factory.mktemp("7b")
    qwen(3584, 28, 28, 4, 18944, 152064, False).save_pretrained(folder)
    return folder


@pytest.fixture(scope="package")
def composed_run(data, big_model):
    """`care_seed_bench_r1` with a model of 7B's sizes."""

    def compose(*overrides):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("VERL_CARE_DATA", str(data))
            return preflight._compose("care_seed_bench_r1", [f"actor_rollout_ref.model.path='{big_model}'", *overrides])

    return compose
