"""`python -m recipes.preflight` on data in the real layout: every run passes, and each kind of damage is a line."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from data_prep.miniature import write_clip, write_world
from recipes.preflight import __main__ as preflight
from recipes.preflight import checks
from tests.unit.test_preflight_memory import qwen
from verl_care.doctor.finding import FAIL

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "recipes/quickstart/checkpoint"
RECIPES = ["care_seed_bench_r1", "care_seed_bench_r1_margin", "care_video_r1"]
# What a laptop changes about a run: recipes/seed_bench_r1/on_a_laptop.sh
SMALL = ["care/platform=cpu", f"actor_rollout_ref.model.path='{MODEL}'", "trainer.total_training_steps=2"]


@pytest.fixture(scope="module")
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


KINDS = ["multiple choice", "numerical", "OCR", "free-form", "regression"]


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


def video_r1_row(root, kind, **changes):
    """A row of the parquet file."""
    return {
        "data_source": "video_r1/train",
        "prompt": [{"role": "user", "content": f"<video>A {kind} question?"}],
        "videos": [{"video": str(root / "clip.mp4")}],
        "images": [],
        "reward_model": {"style": "rule", "ground_truth": "A"},
        "extra_info": {"id": "1", "problem_type": kind},
        **changes,
    }


def write_rows(path, rows):
    pq.write_table(pa.Table.from_pylist(rows), path)


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


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_run_passes(run, recipe):
    status, failed, printed = run(recipe, *SMALL, doctor=recipe == RECIPES[0])
    assert failed == {}
    assert status == 0
    assert printed.splitlines()[-1] == f"{recipe} can start."
    for subject in ("recipe", "machine", "data", "prompts", "GPU, update", "GPU, rollout", "host memory", "disk"):
        assert f"ok    {subject} " in printed
    assert ("plug-in" in printed) == (recipe == RECIPES[0])


def test_it_counts_rows_and_tokens(run):
    _, _, printed = run("care_video_r1", *SMALL)
    assert (
        "Video-R1-260k.parquet: 10 rows (2 multiple choice, 2 numerical, 2 OCR, 2 free-form, 2 regression)" in printed
    )
    assert "Video-R1-260k.parquet: 10 measured, 3 made with their pixels; the longest has " in printed


@pytest.fixture(scope="module")
def big_model(tmp_path_factory):
    """Qwen2.5-VL-7B's config.json, which is all that sizes need."""
    folder = tmp_path_factory.mktemp("7b")
    qwen(3584, 28, 28, 4, 18944, 152064, False).save_pretrained(folder)
    return folder


def sizes(config):
    """The findings on memory and disk."""
    plan = checks.Preflight(config)
    return {name: getattr(plan, name)() for name in ("update_memory", "generation_memory", "host_memory", "disk")}


@pytest.fixture(scope="module")
def composed(data, big_model):
    def compose(*overrides):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("VERL_CARE_DATA", str(data))
            return preflight._compose("care_seed_bench_r1", [f"actor_rollout_ref.model.path='{big_model}'", *overrides])

    return compose


@pytest.mark.parametrize("hardware", ["4x80gb", "8x80gb", "2nodes_x8", "1x141gb"])
def test_every_preset_holds_the_7b_model(composed, hardware):
    found = sizes(composed(f"care/hardware={hardware}"))
    assert found["update_memory"].status == "ok", found
    assert found["generation_memory"].status == "ok", found


def test_one_gpu_without_offloading_does_not(composed):
    found = sizes(composed("care/hardware=1x141gb", "care/offload=none"))["update_memory"]
    assert found.status == FAIL
    # 8 bytes * 8.29e9 = 61.8 GiB
    assert "Adam's moments 61.8" in found.text
    assert found.text.endswith("of 139: Adam's moments is too big")
    assert found.mend == "care/offload=always"


def test_too_many_tokens(composed):
    found = sizes(composed("actor_rollout_ref.actor.ppo_max_token_len_per_gpu=65536"))["update_memory"]
    assert found.text.endswith("logits is too big")
    assert "ppo_max_token_len_per_gpu" in found.mend


def test_a_share_too_small_for_vllm(composed):
    found = sizes(composed("actor_rollout_ref.rollout.gpu_memory_utilization=0.15"))["generation_memory"]
    assert found.status == FAIL
    # 0.15 * 79 = 11.85; weights 2 * 8.29e9 bytes = 15.4 GiB, and a response's cache 2 * 17152 * 28 * 1024 = 0.9
    assert "needs at least 16 GiB and may take 12" in found.text


def test_too_little_disk(composed, monkeypatch):
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 100 * 2**30}))
    found = sizes(composed())["disk"]
    # 16 bytes * 8.29e9 = 123.6 GiB; the next is written before the last goes
    assert (found.status, found.text.startswith("2 checkpoints of 123.6 GiB; 100 free in ")) == (FAIL, True)
    assert sizes(composed("trainer.save_freq=-1"))["disk"].status == "ok"
    # 1,500 steps, one every 500, none deleted
    assert sizes(composed("trainer.max_actor_ckpt_to_keep=null"))["disk"].text.startswith("3 checkpoints")
    assert sizes(composed("trainer.max_actor_ckpt_to_keep=-1"))["disk"].text.startswith("3 checkpoints")
    old_key = "+trainer.remove_previous_ckpt_in_save=true"
    assert sizes(composed("trainer.max_actor_ckpt_to_keep=null", old_key))["disk"].text.startswith("2 checkpoints")
    endless = sizes(composed("trainer.max_actor_ckpt_to_keep=null", "trainer.total_training_steps=null"))["disk"]
    assert (endless.status, endless.text.startswith("every 500 steps 123.6 GiB that stay")) == ("note", True)
    assert "max_actor_ckpt_to_keep=1" in endless.mend


def test_no_reference_no_place_for_it(composed):
    assert "reference" in sizes(composed())["host_memory"].text
    assert "reference" not in sizes(composed("care/method=no_kl"))["host_memory"].text


def test_a_model_that_is_elsewhere(run):
    status, failed, printed = run("care_seed_bench_r1", "trainer.total_training_steps=2")
    assert (status, failed) == (0, {})
    assert "Qwen/Qwen2.5-VL-7B-Instruct is not on this disk" in printed
    assert "hf download Qwen/Qwen2.5-VL-7B-Instruct" in printed
    assert "1 x 4 cuda asked for, none here" in printed


# ---------------------------------------------------------------- damage


@pytest.fixture
def damaged(data, tmp_path):
    """A copy of the data with another training file: rows, or bytes."""

    def damaged(content):
        (tmp_path / "video_r1").mkdir()
        (tmp_path / "video_r1/eval_mmvu.parquet").symlink_to(data / "video_r1/eval_mmvu.parquet")
        file = tmp_path / "video_r1/Video-R1-260k.parquet"
        file.write_bytes(content) if isinstance(content, bytes) else write_rows(file, content)
        return tmp_path

    return damaged


def rows(data, **changes):
    return [video_r1_row(data, "multiple choice", **changes) for _ in range(8)]


DAMAGE = {  # what is in the training file, the check that says so, what it says
    "no parquet": (lambda data: b"not a parquet", "data", "Video-R1-260k.parquet: "),
    "cut off": (
        lambda data: (data / "video_r1/eval_mmvu.parquet").read_bytes()[:-40],
        "data",
        "Video-R1-260k.parquet: ",
    ),
    "no column": (
        lambda data: [{"prompt": "x", "data_source": "y"}] * 8,
        "data",
        "has no column reward_model, extra_info",
    ),
    "unknown type": (
        lambda data: rows(data, extra_info={"id": "1", "problem_type": "riddle"}),
        "data",
        "row 0, extra_info.problem_type: 'riddle', which no rule grades",
    ),
    "no answer": (
        lambda data: rows(data, reward_model={"style": "rule", "ground_truth": ""}),
        "data",
        "row 0, reward_model.ground_truth: empty",
    ),
    "missing clip": (
        lambda data: rows(data, videos=[{"video": "/nowhere/a.mp4"}]),
        "data",
        "1 media files are not there, the first /nowhere/a.mp4",
    ),
    "damaged clip": (
        lambda data: rows(data, videos=[{"video": str(data / "broken.mp4")}]),
        "prompts",
        "not, row ",
    ),
    "a number": (
        lambda data: rows(data, reward_model={"style": "rule", "ground_truth": 3}),
        "data",
        "row 0, reward_model.ground_truth: 3, and grading reads texts alone",
    ),
    "one mark too many": (
        lambda data: [*rows(data), *rows(data, prompt=[{"role": "user", "content": "<video><video>What?"}])],
        "data",
        "row 8: 2 <video> in prompt, and 1 in videos (data.video_key)",
    ),
    "no column of clips": (
        lambda data: [{name: row[name] for name in row if name != "videos"} for row in rows(data)],
        "data",
        "row 0: 1 <video> in prompt, and no column videos (data.video_key)",
    ),
    "too few rows": (
        lambda data: rows(data)[:4],
        "steps",
        "4 training rows: 1 steps an epoch, 1 epoch(s), for 2 steps",
    ),
    "no batch": (lambda data: rows(data)[:3], "steps", "3 training rows make no step of data.train_batch_size=4"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage(run, data, damaged, kind):
    make, subject, message = DAMAGE[kind]
    (data / "broken.mp4").write_bytes(b"\0" * 99)
    status, failed, printed = run("care_video_r1", *SMALL, folder=damaged(make(data)))
    assert status == 1
    assert message in failed[subject].text
    assert failed[subject].mend in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize(
    ("overrides", "subject", "parts"),
    [
        (["data.max_prompt_length=20"], "prompts", ["tokens, above data.max_prompt_length=20"]),
        (["care.bonus=soft"], "recipe", ["care.bonus=soft", "not one of"]),
        (["care/method=ref_gen"], "data", ["care.bonus=refgen judges multiple choice only"]),
        (["no.such=key"], "configuration", ["no"]),
    ],
    ids=str,
)
def test_what_does_not_go_together(run, overrides, subject, parts):
    status, failed, _ = run("care_video_r1", *SMALL, *overrides)
    assert status == 1
    for part in parts:
        assert part in failed[subject].text


def test_training_files_are_judged_together(composed, tmp_path, data):
    files = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    for file in files:
        write_rows(file, rows(data)[:6])
    overrides = ["trainer.total_epochs=1", f"data.train_files=[{','.join(map(str, files))}]"]

    def steps(*more):
        plan = checks.Preflight(composed(*overrides, *more))
        assert [plan.data(file, training=True).status for file in files] == ["ok", "ok"]
        return plan.steps()

    # 12 rows, 4 a step: 3 steps an epoch, where each file by itself has one
    assert steps("trainer.total_training_steps=3").status == "ok"
    found = steps("trainer.total_training_steps=7")
    assert (found.status, found.mend) == (FAIL, "trainer.total_epochs=3")
    assert steps("trainer.total_training_steps=3", "data.train_max_samples=11").status == FAIL  # 11 // 4 = 2
    found = steps("data.train_batch_size=16", "trainer.total_training_steps=null")
    assert (found.status, found.mend) == (FAIL, "more rows, or data.train_batch_size=12")


def test_a_run_by_epochs_says_so(composed):
    found = checks.Preflight(composed("trainer.total_training_steps=null", "trainer.total_epochs=2")).configuration()
    assert found.text.startswith("2 epoch(s) in steps of 4 x 8 responses")


def test_an_unknown_recipe(run):
    status, failed, _ = run("care_nothing")
    assert status == 1
    assert "care_nothing" in failed["configuration"].text


def test_the_script_checks_before_it_trains():
    for recipe in RECIPES:
        script = (ROOT / "recipes" / recipe.removeprefix("care_") / "run.sh").read_text()
        assert script.index("recipes.preflight") < script.index("main_ppo")
        assert "set -euo pipefail" in script


def test_rows_of_every_shape():
    from recipes.preflight.rows import media_paths
    from verl_care.data.marks import Columns

    row = {"videos": [{"video": "a.mp4"}, {"video": ["f1.png", "f2.png"]}], "images": ["file://b.png"]}
    assert list(media_paths(row, Columns())) == ["a.mp4", "f1.png", "f2.png", "file://b.png"]
    assert list(media_paths({"clips": ["c.mp4"], "videos": ["a.mp4"]}, Columns(video="clips"))) == ["c.mp4"]
    assert list(media_paths({"videos": None, "images": [{"image": None}]}, Columns())) == []


def test_a_file_is_there_as_training_finds_it(tmp_path, monkeypatch):
    from recipes.preflight.rows import _is_there

    (tmp_path / "a.mp4").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert all(map(_is_there, (f"file://{tmp_path}/a.mp4", "~/a.mp4", f"{tmp_path}/a.mp4")))
    assert not any(map(_is_there, ("https://example.org/a.mp4", "~/b.mp4", "~nosuchuser/a.mp4", "a" * 300)))


def test_the_table_of_machines_says_what_the_preflight_says(composed, tmp_path_factory):
    small = tmp_path_factory.mktemp("3b")
    qwen(2048, 36, 16, 2, 11008, 151936, True).save_pretrained(small)
    table = (ROOT / "recipes/README.md").read_text()
    for hardware in ("4x80gb", "8x80gb", "2nodes_x8", "1x141gb"):
        large, little = (
            checks.Preflight(composed(f"care/hardware={hardware}", *override))
            for override in ([], [f"actor_rollout_ref.model.path='{small}'"])
        )
        (row,) = [line for line in table.splitlines() if line.startswith(f"| `{hardware}`")]
        cells = [cell.split()[0].rstrip(",") for cell in row.split("|")[2:5]]
        host = large.host_memory().text
        assert cells == [_most(large), _most(little), host.split()[0]], hardware


def _most(run):
    """GiB of the larger stage."""
    return max((run.update_memory().text.split()[0], run.generation_memory().text.split()[0]), key=int)
