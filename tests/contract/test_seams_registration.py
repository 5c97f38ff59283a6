"""What we rely on in verl and Hydra to be found and started, a test per seam."""

import importlib
import importlib.metadata
import subprocess
import sys
import warnings

import pytest
import verl
from omegaconf import OmegaConf
from verl.trainer import main_ppo
from verl.trainer.ppo import core_algos
from verl.trainer.ppo.v1 import get_trainer_cls

from tests.contract.seams import in_order, seam, source
from verl_care import launch
from verl_care.rewards.manager import CareRewardManager
from verl_care.trainer import CareTrainer

# ---------------------------------------------------------------- versions and registration


def test_the_version_that_was_read():
    seam(verl.__version__ == importlib.metadata.version("verl") == "0.9.1", "its version, 0.9.1", "every line here")


def test_what_we_register_is_found():
    seam(get_trainer_cls("care") is CareTrainer, "register_trainer", "trainer.v1.trainer_mode=care")
    seam(
        core_algos.get_adv_estimator_fn("care").__module__ == "verl_care.estimator",
        "register_adv_est",
        "algorithm.adv_estimator=care",
    )
    from verl.experimental.reward_loop.reward_manager import get_reward_manager_cls

    seam(get_reward_manager_cls("care") is CareRewardManager, "register", "reward.reward_manager.name=care")


def test_registrations_wait_for_the_module_that_holds_the_registry():
    """T4: the plug-in imports nothing of verl's trainer, and importing that imports ours."""
    from verl_care import plugin

    for host, ours in plugin.REGISTRATIONS.items():
        importlib.import_module(host)
        seam(ours in sys.modules, f"a module {host}", f"the registration of {ours}")


@pytest.mark.parametrize("first", ["verl_care.agent_loop", "verl_care.trainer"])
def test_whoever_imports_ours_before_verl_has_the_whole_plugin(first):
    code = (
        f"import {first}, sys; from verl.experimental.agent_loop.agent_loop import _agent_loop_registry as loops;"
        "from verl.trainer.ppo.v1 import get_trainer_cls;"
        "print('verl_care.plugin' in sys.modules, {'care', 'care_evaluate'} <= set(loops),"
        "*(get_trainer_cls(name).__name__ for name in ('care', 'care_evaluate')))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert run.stdout.splitlines()[-1:] == ["True True CareTrainer EvaluationTrainer"], run.stderr[-2000:]


def test_a_plugin_that_raises_is_swallowed():
    """T3: so `verl_care.doctor` imports ours unswallowed."""
    loop = source(verl).split("for _ep in _discovered:")[1]
    seam(in_order(loop, "_ep.load()", "except Exception", ".debug("), "plugin errors end at DEBUG", "the doctor")
    points = importlib.metadata.entry_points(group="verl.plugins")
    seam("verl_care.plugin" in [point.value for point in points], "the entry point", "everything")


def test_the_task_runner_asks_the_registry():
    """T2, T16."""
    run = source(main_ppo.TaskRunnerV1.__ray_metadata__.modified_class.run)
    seam("get_trainer_cls(config.trainer.v1.trainer_mode)" in run, "the trainer is looked up by name", "CareTrainer")
    seam(in_order(run, "trainer_cls(config=config)", ".init()", ".fit("), "init, then fit", "CareTrainer.fit")


def test_the_callback_comes_before_ray():
    text = source(main_ppo)
    seam('config_path="config", config_name="ppo_trainer"' in text, "main's config module", "--config-name care_base")
    main = source(main_ppo.main)
    seam("run_ppo(config, task_runner_class=TaskRunnerV1)" in main, "Ray starts inside main", "launch.CareRun")


# ---------------------------------------------------------------- Hydra


def test_hydra_swallows_a_callbacks_exception_but_not_an_exit():
    from hydra._internal.callbacks import Callbacks

    class Raises(launch.CareRun):
        def on_job_start(self, config, **_):
            raise self.error

    callbacks = Callbacks(OmegaConf.create({"hydra": {"callbacks": {}}}))
    callback = Raises()
    callbacks.callbacks = [callback]
    callback.error = ValueError("wrong")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        callbacks.on_job_start(config=OmegaConf.create({}), task_function=lambda: None)
    seam(len(caught) == 1, "Hydra makes a warning of it", "launch.CareRun exits instead")
    callback.error = SystemExit(2)
    with pytest.raises(SystemExit):
        callbacks.on_job_start(config=OmegaConf.create({}), task_function=lambda: None)


def test_our_configs_are_found_from_anywhere(tmp_path):
    """T5, T6: `--config-name care_base` beside verl's own configs. Without importing verl."""
    code = (
        "from hydra._internal.utils import create_config_search_path as path; from hydra.core.plugins import Plugins;"
        "Plugins.instance(); print([p.path for p in path('pkg://verl.trainer.config').get_path()])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    seam("pkg://verl_care.config" in run.stdout, f"the search-path plug-in ({run.stderr[-300:]})", "--config-name")
