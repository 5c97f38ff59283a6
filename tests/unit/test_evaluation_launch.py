"""Before Ray: what is refused, what there is to do; and how an evaluation is composed."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hydra import compose, initialize_config_module
from hydra.core.utils import JobStatus
from omegaconf import OmegaConf

from data_prep.common.schema import RL_SCHEMA, rl_row
from tests.unit.configs import put
from verl_care.checks import check
from verl_care.data.prompts import prompt_text
from verl_care.evaluation.generate import checks, launch
from verl_care.evaluation.generate.command import BENCHMARKS, evaluation_command
from verl_care.evaluation.generate.launch import EvaluationRun, read_questions
from verl_care.evaluation.generate.progress import Progress
from verl_care.evaluation.rows import append_rows, read_rows
from verl_care.settings import CareConfigError


def write_questions(path: Path, ids, style="released_evaluation", dataset="seed_bench_r1/L1", bare=()):
    """`bare`: those that ask for a clip and have none."""
    asked = prompt_text("What next?", "multiple choice", style)
    rows = [
        rl_row(
            data_source=dataset, text="<video>" * (i in bare) + asked, ground_truth="A", id=str(i), index=0,
            problem_type="multiple choice", options=["x", "y"], question="What next?",
        )
        for i in ids
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows, schema=RL_SCHEMA), path)


@pytest.fixture
def make(tmp_path):
    """Composes `care_evaluate` on two questions and a model of one file."""
    write_questions(tmp_path / "two.parquet", [1, 2])
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")

    def make(*overrides):
        given = [
            f"data.val_files=[{tmp_path}/two.parquet]",
            f"actor_rollout_ref.model.path={tmp_path}/model",
            f"evaluation.run={tmp_path}/run",
        ]
        with initialize_config_module("verl.trainer.config", version_base=None):
            return compose("care_evaluate", [*given, *overrides])

    return make


@pytest.fixture
def prepare(monkeypatch):
    """What happens before Ray, without shared memory, fork server and the bar's thread; runs before it have ended."""
    runs: list[EvaluationRun] = []

    def end_all():
        for run in runs:
            if hasattr(run, "_progress"):
                run._progress.stop()
            if hasattr(run, "_lock"):
                run._lock.release()
        runs.clear()

    def prepare(config):
        end_all()
        runs.append(EvaluationRun())
        runs[0].prepare(config)
        return runs[0]

    yield prepare
    end_all()


class TestComposed:
    def test_the_released_evaluation(self, make):
        config = make()
        OmegaConf.resolve(config)
        rollout = config.actor_rollout_ref.rollout
        assert (rollout.val_kwargs.temperature, rollout.val_kwargs.top_p, rollout.val_kwargs.top_k) == (0.1, 0.001, -1)
        assert (config.data.max_response_length, rollout.response_length) == (1024, 1024)
        assert (config.data.video.min_frames, config.data.video.max_frames, config.data.video.fps) == (4, 16, 2.0)
        assert (config.trainer.val_only, config.trainer.val_before_train) == (True, True)
        assert config.data.evaluation.samples == 1

    def test_it_passes_its_own_checks(self, make):
        config = make()
        check(config)
        assert list(checks.problems(config)) == []

    def test_no_training_state(self, make):
        config = make()
        assert not check(config).needs_reference(config)
        assert config.actor_rollout_ref.rollout.load_format == "auto"
        assert config.care.groups_per_step == 0  # GroupLog writes nothing, not even a start

    def test_general_video_has_32_frames_and_six_benchmarks(self, make, monkeypatch):
        monkeypatch.setenv("VERL_CARE_DATA", "/data")
        with initialize_config_module("verl.trainer.config", version_base=None):
            config = compose("care_evaluate", ["care/evaluate=general_video"])
        assert config.data.video.max_frames == 32
        names = [Path(file).stem.removeprefix("eval_") for file in config.data.val_files]
        assert sorted(names) == ["mmvu", "mvbench", "tempcompass", "videomme", "videommmu", "vsibench"]

    def test_every_benchmark_is_a_group(self):
        folder = Path(launch.__file__).parents[2] / "config/care/evaluate"
        assert sorted(file.stem for file in folder.iterdir()) == sorted(BENCHMARKS)

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("evaluation.run", None),
            ("evaluation.retry_failde", True),
            ("actor_rollout_ref.rollout.val_kwargs.n", 0),
            ("actor_rollout_ref.rollout.val_kwargs.do_sample", False),
            ("actor_rollout_ref.rollout.load_format", "dummy"),
            ("actor_rollout_ref.rollout.free_cache_engine", True),
            ("actor_rollout_ref.rollout.agent.default_agent_loop", "care"),
            ("actor_rollout_ref.model.lora_adapter_path", "adapter"),
            ("data.custom_cls.name", "CareDataset"),
            ("data.filter_overlong_prompts", True),
            ("data.shuffle", True),
            ("trainer.val_only", False),
            ("trainer.val_before_train", False),
            ("trainer.nnodes", 2),
            ("trainer.resume_mode", "auto"),
            ("trainer.v1.trainer_mode", "care"),
        ],
    )
    def test_what_does_not_go_with_it_is_said_with_its_key(self, make, key, value):
        config = make()
        put(config, key, value)
        (problem,) = checks.problems(config)
        assert key.rpartition(".")[0] in problem


class TestQuestions:
    def test_the_first_ones(self, make):
        assert [question.id for question in read_questions(make("data.val_max_samples=1"))] == ["1"]

    def test_an_id_that_stands_twice(self, make, tmp_path):
        write_questions(tmp_path / "two.parquet", [1, 2, 1])
        with pytest.raises(CareConfigError, match="1 of seed_bench_r1/L1 among them"):
            read_questions(make())

    def test_no_question(self, make, tmp_path):
        write_questions(tmp_path / "two.parquet", [])
        with pytest.raises(CareConfigError, match="no question"):
            read_questions(make())

    def test_the_training_wording_is_refused(self, make, tmp_path, prepare):
        write_questions(tmp_path / "two.parquet", [1, 2], style="released")
        with pytest.raises(CareConfigError, match="training wording"):
            prepare(make())
        prepare(make("evaluation.allow_training_prompts=true"))

    def test_another_wording_is_said(self, make, tmp_path, prepare, capsys):
        write_questions(tmp_path / "two.parquet", [1, 2], style="plain")
        prepare(make())
        assert "not the release's evaluation wording" in capsys.readouterr().out

    def test_two_wordings_are_refused(self, make, tmp_path, prepare):
        write_questions(tmp_path / "more.parquet", [3], style="plain")
        with pytest.raises(CareConfigError, match="2 released_evaluation, 1 plain"):
            prepare(make(f"data.val_files=[{tmp_path}/two.parquet,{tmp_path}/more.parquet]"))


class TestPrepare:
    def answer(self, config, ids, sample=0, **changes):
        questions = {question.id: question for question in read_questions(config)}
        run = Path(config.evaluation.run)
        for i in ids:
            failure = changes.get("failure")
            question = questions[str(i)]
            row = question.failed(sample, failure, "") if failure else question.answered(sample, "t", "length", 1, "")
            append_rows(run, [row])

    def test_what_is_missing_is_said(self, make, prepare, capsys):
        config = make()
        prepare(config)
        assert "2 responses to 2 of 2 questions are missing" in capsys.readouterr().out
        self.answer(config, [1])
        prepare(config)
        assert "1 responses to 1 of 2 questions are missing" in capsys.readouterr().out

    def test_nothing_to_do_ends_well(self, make, prepare, capsys):
        config = make()
        prepare(config)
        self.answer(config, [1, 2])
        with pytest.raises(SystemExit) as stopped:
            prepare(config)
        assert stopped.value.code == 0
        said = capsys.readouterr().out
        assert "nothing to do" in said
        assert "seed_bench_r1/L1: 2 of 2 responses, 2 cut off" in said

    def test_other_settings_are_refused(self, make, prepare):
        prepare(make())
        with pytest.raises(CareConfigError, match=r"data\.video\.max_frames: 16 there, 32 now"):
            prepare(make("data.video.max_frames=32"))

    def test_another_model_is_refused(self, make, prepare, tmp_path):
        prepare(make())
        (tmp_path / "model" / "config.json").write_text('{"other": 1}')
        with pytest.raises(CareConfigError, match="model: "):
            prepare(make())

    def test_more_samples_of_the_same_questions_go_on(self, make, prepare, capsys):
        config = make()
        prepare(config)
        self.answer(config, [1, 2])
        capsys.readouterr()
        prepare(make("actor_rollout_ref.rollout.val_kwargs.n=3"))
        assert "4 responses to 2 of 2 questions" in capsys.readouterr().out

    def test_a_question_without_its_clip_is_failed_and_the_others_are_asked(self, make, prepare, tmp_path, capsys):
        write_questions(tmp_path / "more.parquet", [3, 4], bare=[3])
        config = make(f"data.val_files=[{tmp_path}/two.parquet,{tmp_path}/more.parquet]")
        prepare(config)
        said = capsys.readouterr().out
        assert "1 questions cannot be asked, and count as failed: 3 of seed_bench_r1/L1: 1 <video> in prompt" in said
        assert "3 responses to 3 of 4 questions are missing" in said
        (row,) = read_rows(Path(config.evaluation.run))
        assert (row.id, row.sample) == ("3", 0)
        assert row.failure == "media: 1 <video> in prompt, and 0 in videos (data.video_key)"

    def test_it_is_not_tried_again(self, make, prepare, tmp_path, capsys):
        write_questions(tmp_path / "two.parquet", [1, 2], bare=[1])
        prepare(make())
        self.answer(make(), [2])
        for retry in (False, True):
            with pytest.raises(SystemExit) as stopped:
                prepare(make(f"evaluation.retry_failed={retry}"))
            assert stopped.value.code == 0
            assert "2 of 2 responses, 1 failed (media)" in capsys.readouterr().out
        assert len((tmp_path / "run" / "responses.jsonl").read_text().splitlines()) == 2

    def test_a_file_without_any_clip_has_them_in_another_column(self, make, prepare, tmp_path):
        write_questions(tmp_path / "more.parquet", [3, 4], bare=[3, 4])
        files = f"data.val_files=[{tmp_path}/two.parquet,{tmp_path}/more.parquet]"
        with pytest.raises(
            CareConfigError, match=r"none of its 2 questions .* Set data\.video_key and data\.image_key"
        ):
            prepare(make(files))
        assert not (tmp_path / "run" / "responses.jsonl").exists()
        prepare(make(files, "data.val_max_samples=2"))  # which are not asked

    @pytest.mark.parametrize(("status", "code"), [(JobStatus.COMPLETED, 1), (JobStatus.FAILED, None)])
    def test_missing_answers_at_the_end_are_an_error(self, make, prepare, capsys, status, code):
        config = make()
        run = prepare(config)
        self.answer(config, [1], failure="media: gone")
        if code is None:  # Hydra raises the job's own error
            run.on_job_end(config, SimpleNamespace(status=status))
        else:
            with pytest.raises(SystemExit) as stopped:
                run.on_job_end(config, SimpleNamespace(status=status))
            assert stopped.value.code == code
        said = capsys.readouterr()
        assert "1 of 2 responses, 1 failed (media)" in said.out
        assert "1 responses are missing" in said.err

    def test_the_end_of_a_whole_evaluation(self, make, prepare):
        config = make()
        run = prepare(config)
        self.answer(config, [1, 2])
        run.on_job_end(config, SimpleNamespace(status=JobStatus.COMPLETED))
        assert len(read_rows(Path(config.evaluation.run))) == 2


def test_the_bar_counts_rows_from_now_on(tmp_path, monkeypatch):
    path = tmp_path / "responses.jsonl"
    path.write_text('{"failure": null}\n')
    monkeypatch.setattr("sys.stderr", io.StringIO())
    bar = Progress(path, 3)
    with path.open("a") as file:
        file.write('{"failure": null}\n{"failure": "media: gone"}\n{"fail')
    bar.stop()
    assert bar.bar.n == 2
    assert bar.bar.postfix == "failed=1"


class TestCommand:
    def test_a_benchmark(self):
        command = evaluation_command("care-global_step_7", "/runs/it's", "general_video", ["data.seed=1"])
        assert command[1:] == [
            *("-m", "verl.trainer.main_ppo", "--config-name", "care_evaluate", "care/evaluate=general_video"),
            r"actor_rollout_ref.model.path='/runs/it\'s'",
            f"evaluation.run='{Path.cwd()}/runs/evaluation/general_video/care-global_step_7'",
            "data.seed=1",
        ]

    def test_files(self, tmp_path):
        for name in ("a b", "c"):
            (tmp_path / f"{name}.parquet").touch()
        command = evaluation_command("m", "m", f"{tmp_path}/a b.parquet,{tmp_path}/c.parquet", [])
        assert f"data.val_files=['{tmp_path}/a b.parquet','{tmp_path}/c.parquet']" in command
        assert f"evaluation.run='{Path.cwd()}/runs/evaluation/a b+c/m'" in command

    def test_neither(self):
        with pytest.raises(FileNotFoundError, match="seed_bench: no such file; DATA is seed_bench_r1"):
            evaluation_command("m", "m", "seed_bench", [])

    @pytest.mark.parametrize("path", ["plain", "with space", "it's", 'say "a"', "a,b=[c]{d}", "ä/視"])
    def test_hydra_reads_any_path_back(self, make, path):
        from verl_care.evaluation.generate.command import quoted

        assert make(f"evaluation.run={quoted(path)}").evaluation.run == path
