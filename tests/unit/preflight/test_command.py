"""`python -m recipes.preflight`: every run passes, and what does not go together is a line."""

from pathlib import Path

import pytest

from recipes.preflight import checks

ROOT = Path(__file__).parents[3]
MODEL = ROOT / "recipes/quickstart/checkpoint"
RECIPES = ["care_seed_bench_r1", "care_seed_bench_r1_margin", "care_video_r1"]
# What a laptop changes about a run: recipes/seed_bench_r1/on_a_laptop.sh
SMALL = ["care/platform=cpu", f"actor_rollout_ref.model.path='{MODEL}'", "trainer.total_training_steps=2"]


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


def test_a_model_that_is_elsewhere(run):
    status, failed, printed = run("care_seed_bench_r1", "trainer.total_training_steps=2")
    assert (status, failed) == (0, {})
    assert "Qwen/Qwen2.5-VL-7B-Instruct is not on this disk" in printed
    assert "hf download Qwen/Qwen2.5-VL-7B-Instruct" in printed
    assert "1 x 4 cuda asked for, none here" in printed


# ---------------------------------------------------------------- damage


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


def test_a_run_by_epochs_says_so(composed_run):
    by_epochs = composed_run("trainer.total_training_steps=null", "trainer.total_epochs=2")
    found = checks.Preflight(by_epochs).configuration()
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
