"""A wrong value ends the process before Ray starts."""

import os
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from ray._private import ray_constants

from tests.unit.configs import put
from verl_care import checks, launch
from verl_care.platforms.cpu import ray_worker
from verl_care.processes import worker_environment


class TestLaunch:
    def test_a_wrong_value_ends_the_process_before_ray(self, config, capsys):
        put(config, "care.consistency_margin", -1)
        with pytest.raises(SystemExit) as stopped:
            launch.CareRun().on_job_start(config)
        assert stopped.value.code == 2
        assert "care.consistency_margin=-1" in capsys.readouterr().err

    def test_a_check_that_fails_ends_it_too(self, config, monkeypatch, capsys):
        # Hydra makes a warning of an exception in a callback, and goes on
        monkeypatch.setattr(checks, "check", lambda config: 1 / 0)
        with pytest.raises(SystemExit) as stopped:
            launch.CareRun().on_job_start(config)
        assert stopped.value.code == 1
        assert "ZeroDivisionError" in capsys.readouterr().err

    def test_a_helper_that_does_not_start_ends_it_too(self, config, fake_server, at_exit, monkeypatch, capsys):
        monkeypatch.setattr("verl_care.platforms.cpu.forkserver.ForkServer", lambda env: 1 / 0)
        with pytest.raises(SystemExit) as stopped:
            launch.CareRun().on_job_start(config)
        assert stopped.value.code == 1
        assert "ZeroDivisionError" in capsys.readouterr().err

    def test_a_foreign_folder_of_marks_ends_it_in_one_line(self, config, fake_server, at_exit, tmp_path, capsys):
        (tmp_path / f"verl_care-{os.getuid()}").symlink_to(tmp_path)
        with pytest.raises(SystemExit) as stopped:
            launch.CareRun().on_job_start(config)
        assert stopped.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("verl_care: ")
        assert line.endswith("remove it, or set TMPDIR to a folder of your own")

    def test_a_sound_configuration_passes(self, config, fake_server, at_exit, tmp_path):
        launch.CareRun().on_job_start(config)
        assert list(tmp_path.glob("verl_care-*/*"))  # the mark of a running run
        assert len(at_exit) == 1


class TestFolders:
    """A Ray that was there before has its processes elsewhere: folders are those seen from where a run is started."""

    def test_verl_gets_what_is_checked(self, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        checked, handed_on = [], []
        monkeypatch.setattr(launch.CareRun, "on_job_start", lambda self, config, **_: checked.append(config))
        overrides = ["trainer.experiment_name=a", "trainer.rollout_data_dir=dumps"]
        with initialize_config_module("verl.trainer.config", version_base=None):
            hydra = GlobalHydra.instance().hydra
            assert hydra is not None
            hydra.run("care_base", handed_on.append, overrides, with_log_configuration=False)
        for config in (*checked, *handed_on):
            assert config.trainer.default_local_dir == f"{tmp_path}/runs/a"
            assert config.trainer.validation_data_dir == f"{tmp_path}/runs/a/validation"
            assert config.trainer.rollout_data_dir == f"{tmp_path}/dumps"
            assert config.trainer.resume_from_path is None
        assert (len(checked), len(handed_on)) == (1, 1)

    def test_a_checkpoint_to_go_on_from(self, config, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        put(config, "trainer.resume_from_path", "../runs/a/global_step_4")
        launch.make_folders_absolute(config)
        assert config.trainer.resume_from_path == f"{tmp_path.parent}/runs/a/global_step_4"

    @pytest.mark.parametrize("folder", ["/runs/a", "~/runs/a", "hdfs://cluster/runs/a"])
    def test_what_no_working_directory_changes_stays(self, config, folder):
        put(config, "trainer.default_local_dir", folder)
        launch.make_folders_absolute(config)
        assert config.trainer.default_local_dir == folder

    def test_an_evaluations_folder(self, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        with initialize_config_module("verl.trainer.config", version_base=None):
            config = compose("care_evaluate", ["evaluation.run=mine"])
        launch.make_folders_absolute(config)
        found = (config.evaluation.run, config.data.evaluation.run, config.trainer.default_local_dir)
        assert found == (f"{tmp_path}/mine",) * 3

    def test_one_that_cannot_be_told_ends_the_process(self, config, monkeypatch, capsys):
        put(config, "trainer.default_local_dir", "${nothing}/a")
        with pytest.raises(SystemExit) as stopped:  # as in `on_job_start`
            launch.CareRun().on_run_start(config)
        assert stopped.value.code == 2
        assert "the configuration cannot be read: " in capsys.readouterr().err


class TestWorkerEnvironment:
    """Ray starts its workers with `py_executable`, as a word of a shell command."""

    def test_forked_on_a_cpu(self, config, fake_server, at_exit):
        launch.CareRun().on_job_start(config)
        assert given_to_workers({"env_vars": {}}) == {"env_vars": {}, "py_executable": "'/with a space/python'"}
        # the job's variables, because some are read when a library is imported
        assert fake_server.env["TORCHDYNAMO_DISABLE"] == "1"
        assert fake_server.env["VLLM_LOGGING_LEVEL"] == "WARN"  # verl's own
        assert ray_worker.__file__ == ray_constants.SETUP_WORKER_FILENAME
        (tidy, *arguments) = at_exit[0]
        tidy(*arguments)
        assert fake_server.stopped

    @pytest.mark.parametrize(
        ("executable", "quoted"), [("/my clone/bin/python", "'/my clone/bin/python'"), ("/usr/bin/python3", None)]
    )
    def test_this_interpreter_on_a_gpu(self, composed, fake_server, at_exit, monkeypatch, executable, quoted):
        monkeypatch.setattr(checks, "check", lambda config: None)  # it looks for data
        monkeypatch.setattr("sys.executable", executable)
        launch.CareRun().on_job_start(composed["care_base"].copy())
        assert given_to_workers({}).get("py_executable") == quoted
        assert fake_server.env is None
        assert ray_constants.SETUP_WORKER_FILENAME == "setup_worker.py"

    def test_the_users_choice_stays(self, config, fake_server, at_exit):
        put(config, "ray_kwargs.ray_init.runtime_env.py_executable", "uv run")
        launch.CareRun().on_job_start(config)
        assert fake_server.env is None
        assert given_to_workers({"py_executable": "uv run"}) == {"py_executable": "uv run"}

    def test_variables_that_our_configurations_read_reach_workers_of_a_ray_that_ran_before(
        self, config, fake_server, at_exit, monkeypatch
    ):
        monkeypatch.setenv("VERL_CARE_DATA", "/shared/data")
        monkeypatch.setenv("VERL_CARE_QUICKSTART", "/here")
        launch.CareRun().on_job_start(config)
        job = {"NCCL_DEBUG": "WARN", "VERL_CARE_QUICKSTART": "/the job's own"}
        assert given_to_workers({"env_vars": job})["env_vars"] == job | {"VERL_CARE_DATA": "/shared/data"}
        assert job.keys() == {"NCCL_DEBUG", "VERL_CARE_QUICKSTART"}

    def test_a_hook_of_the_user_is_called_first(self, config, fake_server, at_exit, monkeypatch):
        monkeypatch.setenv(worker_environment.HOOK, f"{__name__}.users_hook")
        launch.CareRun().on_job_start(config)
        assert given_to_workers(None) == {"seen": None, "py_executable": "'/with a space/python'"}


def users_hook(runtime_env):
    return {"seen": runtime_env}


def given_to_workers(runtime_env):
    """What Ray makes of a job's runtime environment in `ray.init`."""
    from ray._private.worker import _maybe_modify_runtime_env

    return _maybe_modify_runtime_env(runtime_env, False)


class FakeServer:
    env, stopped, python = None, False, Path("/with a space/python")

    def __call__(self, env):
        self.env = env
        return self

    def stop(self):
        self.stopped = True


@pytest.fixture
def fake_server(monkeypatch):
    server = FakeServer()
    monkeypatch.setattr("verl_care.platforms.cpu.forkserver.ForkServer", server)
    monkeypatch.setattr(ray_constants, "SETUP_WORKER_FILENAME", "setup_worker.py")
    monkeypatch.setattr(worker_environment, "_python", [])
    monkeypatch.setattr(worker_environment, "_earlier_hooks", [])
    monkeypatch.setenv(worker_environment.HOOK, "")  # so that it is taken back after the test
    monkeypatch.delenv(worker_environment.HOOK)
    for name in [name for name in os.environ if name.startswith(worker_environment.OURS)]:
        monkeypatch.delenv(name)
    return server


@pytest.fixture
def at_exit(monkeypatch, tmp_path):
    """What a run would do at its end; its marks go to `tmp_path`."""
    calls = []
    monkeypatch.setattr("verl_care.processes.shared_memory.tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr("atexit.register", lambda *call: calls.append(call))
    return calls
