"""The user's own command: it trains, is killed in the middle of a step, resumes, and its result loads elsewhere."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration

from recipes.evidence.replay.updates import replay
from recipes.quickstart.report import read_jsonl, read_metrics
from tests.e2e.conftest import START_LIMIT
from tests.e2e.leftovers import left_in_shared_memory
from tests.e2e.world import damage_clips, write_model_that_prefers
from verl_care.checkpoints import folders
from verl_care.evaluation.generate import checkpoint
from verl_care.records import groups, jsonl
from verl_care.report import collect, page

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3 * START_LIMIT)]

EVERY_STEP = {
    "care/accuracy", "care/format", "care/bonus", "care/selected_fraction", "care/no_answer_fraction",
    "care/all_wrong_groups", "care/all_correct_groups", "care/equal_reward_groups", "care/reference_updates",
    "timing_s/ref", "timing_s/care_bonus", "timing_s/care_ema", "care/scored_fraction", "care/pixels_gb",
    "timing_s/care_groups", "care/groups_lost",
}  # fmt: skip


@pytest.fixture(scope="module")
def resumed(new_run):
    """Killed with SIGKILL after step 2 was saved, then started again with the same command."""
    run = new_run("care")
    settings = ["trainer.total_training_steps=4", "trainer.save_freq=2", "care.ref_ema_update_every=2"]
    first = run.start("trainer.total_training_steps=1000", *settings[1:])
    deadline = time.monotonic() + START_LIMIT
    while max(read_metrics(run.folder), default=0) < 3 and first.poll() is None:
        assert time.monotonic() < deadline, run.log[-4000:]
        time.sleep(0.2)
    assert first.poll() is None, run.log[-4000:]
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    left_by_the_kill = folders.latest_complete(run.folder)[0]
    assert left_by_the_kill is not None
    assert folders.step_of(left_by_the_kill) == 2
    run.finish(*settings)
    return run


def test_every_step_is_logged_once_over_both_starts(resumed):
    assert set(read_metrics(resumed.folder)) == {1, 2, 3, 4}


def test_care_metrics_of_every_step(resumed):
    for step, values in read_metrics(resumed.folder).items():
        assert values.keys() >= EVERY_STEP, step


def test_the_policy_that_samples_is_the_one_that_is_trained(resumed):
    for step, values in read_metrics(resumed.folder).items():
        # float32 on both sides: with one temporal position for all frames of a clip it was 0.06
        assert values["training/rollout_probs_diff_mean"] < 1e-3, step


def test_its_updates_are_those_of_plain_pytorch(resumed):
    """Advantage, loss, gradient and AdamW, made once more without verl from responses and rewards; past the resumption
    too, so that the optimizer's state was carried over it."""
    logged = read_metrics(resumed.folder)
    for step, made, _ in replay(resumed.folder, resumed.home / "model", resumed.home / "data"):
        assert made.gradient == pytest.approx(logged[step]["actor/grad_norm"], rel=1e-3, abs=1e-6), step
        assert made.entropy == pytest.approx(logged[step]["actor/entropy"], rel=1e-3), step
    assert any(values["actor/grad_norm"] > 0 for values in logged.values())


def test_right_answers_earn_a_bonus(resumed):
    metrics = read_metrics(resumed.folder).values()
    assert sum(values["care/bonus"] for values in metrics) > 0
    # half its accuracy at most
    assert all(values["care/bonus"] <= 0.5 * values["care/accuracy"] + 1e-6 for values in metrics)


def test_the_reference_scores_whom_the_bonus_compares(resumed):
    for step, values in read_metrics(resumed.folder).items():
        assert values["care/scored_fraction"] == pytest.approx(values["care/selected_fraction"]), step
        assert values["care/pixels_gb"] > 0, step


def test_the_reference_follows_on_its_steps_only(resumed):
    metrics = read_metrics(resumed.folder)
    # an update every 2 optimizer steps, one optimizer step a step
    assert [metrics[step]["care/reference_updates"] for step in (1, 2, 3, 4)] == [0, 1, 1, 2]
    assert [step for step in metrics if "care/reference_distance" in metrics[step]] == [2, 4]


def test_the_groups_of_every_step_are_there_once(resumed):
    """The killed start wrote those of step 3, and perhaps of a fourth, which do not count."""
    records = list(jsonl.read(groups.place(resumed.folder)))
    assert [record["step"] for record in records if record["kind"] == "start"] == [0, 2]
    valid = groups.valid(records)
    names = {(group["step"], group["data_source"], group["id"]) for group in valid}
    assert len(names) == len(valid)
    assert {group["step"] for group in valid} == {1, 2, 3, 4}
    assert any(group["videos"] for group in valid)
    for group in valid:
        assert all(len(video["frame_times"]) >= 2 for video in group["videos"])  # none where nothing has been done yet
        for response in group["responses"]:
            earned = response["accuracy"] + response["format"] + response["bonus"]
            assert response["reward"] == pytest.approx(earned)
            assert response["selected"] == (response["likelihood"] is not None)


def test_its_page_shows_every_response_and_the_frames_it_saw(resumed, visit, tmp_path):
    path = tmp_path / "report.html"
    payload = collect.collect([resumed.folder])
    page.write(payload, path)
    responses = sum(len(group["responses"]) for group in payload["groups"])
    trained = sum(len(group["responses"]) for group in groups.valid(jsonl.read(groups.place(resumed.folder))))
    assert responses == trained > 0
    shown = visit(path.as_uri() + "#/finder")
    shown.get_by_text(f"{responses} of {responses} responses").wait_for()
    shown = visit(path.as_uri() + "#/groups")
    shown.get_by_text("as the model saw them").wait_for()
    widths = shown.locator("img").evaluate_all("images => images.map((image) => image.naturalWidth)")
    assert widths
    assert all(width > 0 for width in widths)


def test_it_said_where_it_resumed(resumed):
    assert "global_step_2" in resumed.log


def test_the_last_checkpoint_is_complete(resumed):
    folder, newer = folders.latest_complete(resumed.folder)
    assert folder is not None
    assert (folders.step_of(folder), newer) == (4, {})
    assert json.loads((folder / folders.MARK).read_text())["has_reference"]


def test_nothing_is_left_in_shared_memory(resumed):
    assert not left_in_shared_memory(resumed.shared_memory_before)


def test_merged_model_loads(resumed):
    """As an evaluation is given it: a checkpoint as it lies."""
    merged = checkpoint.as_model(str(resumed.folder / "global_step_4"))
    assert Qwen2_5_VLForConditionalGeneration.from_pretrained(merged).num_parameters() > 0
    assert checkpoint.as_model(merged) == merged
    assert checkpoint.fingerprint(Path(merged)) != checkpoint.fingerprint(resumed.home / "model")


@pytest.fixture(scope="module")
def model_of_pads(home):
    """It begins every response, and every answer's tag, with `<|video_pad|>`: a clip without pixels."""
    tokenizer = AutoTokenizer.from_pretrained(home / "model")
    pad, bracket = tokenizer.convert_tokens_to_ids(["<|video_pad|>", "<"])
    write_model_that_prefers(home / "model of pads", pad, instead_of=bracket)
    return home / "model of pads"


@pytest.fixture(scope="module")
def damaged(new_run, home, model_of_pads):
    """Plain GRPO with KL, on data that lost the clips of rows 1 and 5, one of each step, and of a validation row."""
    run = new_run("grpo")
    train, validation = damage_clips(home, "training_6k", (1, 5)), damage_clips(home, "validation_L1", (0,))
    run.finish(
        "trainer.total_training_steps=2", "trainer.test_freq=2", "care.bonus=none",
        "actor_rollout_ref.actor.use_kl_loss=true", "data.shuffle=false",
        "care.consistency_measures=[contradiction,agreement,likelihood]",
        f"data.train_files='{train}'", f"data.val_files='{validation}'",
        f"actor_rollout_ref.model.path='{model_of_pads}'",
    )  # fmt: skip
    return run


def test_a_policy_that_prefers_a_clip_without_pixels_cannot_sample_one(damaged, model_of_pads):
    """It begins with what it likes second best, as the model does that it was made from."""
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(model_of_pads)
    tokenizer = AutoTokenizer.from_pretrained(model_of_pads)
    chat = [{"role": "user", "content": "What next?"}]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    likeliest = model(**tokenizer(text, return_tensors="pt")).logits[0, -1].argmax()
    assert tokenizer.decode(likeliest) == "<|video_pad|>"
    responses = [row["output"] for row in read_jsonl(damaged.folder / "validation" / "2.jsonl")]
    assert responses
    assert all(response.startswith("<") for response in responses)
    assert all(values["care/format"] > 0.5 for values in read_metrics(damaged.folder).values())


def test_plain_grpo_with_kl_against_the_reference(damaged):
    metrics = read_metrics(damaged.folder)
    assert all(values["care/bonus"] == 0 for values in metrics.values())
    assert all("actor/kl_loss" in values for values in metrics.values())


def test_consistency_is_measured_at_validation(damaged):
    """By the policy through its servers, and by the reference, which is there for the KL."""
    validated = read_metrics(damaged.folder)[2]
    name = "val-aux/seed_bench_r1/L1/consistency_{}/mean@1".format
    for measure in ("contradiction", "agreement", "likelihood"):
        known = validated[name(f"{measure}_known")]
        assert 0 <= known <= 1
        # of few questions, the reasonings of all may end in a word that is no option: then the rule says nothing
        assert (name(measure) in validated) == (known > 0)
        assert 0 <= validated.get(name(measure), 0) <= 1
    assert validated[name("agreement_known")] > 0
    assert validated[name("likelihood_known")] > 0
    assert validated["val-aux/care/agreement_s"] > 0
    rows = read_jsonl(damaged.folder / "validation" / "2.jsonl")
    assert {row["consistency_contradiction"] for row in rows} <= {0.0, 1.0, None}
    assert any(0 < row["consistency_likelihood"] < 1 for row in rows)


def test_a_prompt_that_lost_its_clip_is_replaced_and_counted(damaged):
    metrics = read_metrics(damaged.folder)
    assert [metrics[step]["care/media_failures"] for step in (1, 2)] == [1, 1]
    assert metrics[2]["val-aux/care/media_failures"] == 1
    # four prompts of four responses each all the same: the policy trained on whole steps
    assert all(values["training/rollout_failure/evicted_samples"] == 1 for values in metrics.values())


def test_and_named_once(damaged):
    for clip, when in (("training_6k_1", "step 1"), ("training_6k_5", "step 2"), ("validation_L1_0", "validation")):
        told = [line for line in damaged.log.splitlines() if f"lost_{clip}.mp4" in line]
        assert len(told) == 1, told
        assert told[0].endswith(f"a prompt was left out in {when}")
