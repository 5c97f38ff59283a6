"""A wrong value ends the process before Ray starts."""

import pytest

from tests.unit.configs import put
from verl_care import launch, settings


class TestLaunch:
    def test_a_wrong_value_ends_the_process_before_ray(self, config, capsys):
        put(config, "care.consistency_margin", -1)
        with pytest.raises(SystemExit) as stopped:
            launch.CareRun().on_job_start(config)
        assert stopped.value.code == 2
        assert "care.consistency_margin=-1" in capsys.readouterr().err

    def test_a_check_that_fails_ends_it_too(self, config, monkeypatch, capsys):
        # Hydra makes a warning of an exception in a callback, and goes on
        monkeypatch.setattr(settings, "check", lambda config: 1 / 0)
        with pytest.raises(SystemExit) as stopped:
            launch.CareRun().on_job_start(config)
        assert stopped.value.code == 1
        assert "ZeroDivisionError" in capsys.readouterr().err

    def test_a_sound_configuration_passes(self, config, tmp_path, monkeypatch):
        at_exit = []
        monkeypatch.setattr("verl_care.shared_memory.tempfile.gettempdir", lambda: str(tmp_path))
        monkeypatch.setattr("atexit.register", lambda *call: at_exit.append(call))
        launch.CareRun().on_job_start(config)
        assert list(tmp_path.glob("verl_care-*/*"))  # the mark of a running run
        assert len(at_exit) == 1
