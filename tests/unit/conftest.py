"""The composed configurations that settings are checked in."""

import logging

import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf


@pytest.fixture(scope="module")
def composed(tmp_path_factory):
    """The two published primary configs, built the way `verl.trainer.main_ppo` builds them; on data that is there."""
    root = tmp_path_factory.mktemp("quickstart")
    (root / "data").mkdir()
    (root / "model").mkdir()
    (root / "model" / "config.json").write_text("{}")
    for name in ("training_6k", "validation_L1", "validation_L2", "validation_L3"):
        (root / "data" / f"{name}.parquet").touch()
    named = [
        f"data.train_files={root}/data/training_6k.parquet",
        f"data.val_files={root}/data/validation_L1.parquet",
        "actor_rollout_ref.model.path=Qwen/Qwen2.5-VL-7B-Instruct",
    ]
    with pytest.MonkeyPatch.context() as patch, initialize_config_module("verl.trainer.config", version_base=None):
        patch.setenv("VERL_CARE_QUICKSTART", str(root))
        quickstart = compose("care_quickstart")
        OmegaConf.resolve(quickstart)
        return {"care_base": compose("care_base", overrides=named), "care_quickstart": quickstart}


@pytest.fixture
def config(composed):
    return composed["care_quickstart"].copy()


@pytest.fixture(autouse=True)
def our_log_reaches_pytest(monkeypatch):
    """What ran earlier here may have handed our log to verl's handlers, or silenced the root and pytest's."""
    monkeypatch.setattr(logging.getLogger("verl_care"), "propagate", True)
    logging.root.setLevel(logging.WARNING)
    for handler in logging.root.handlers:
        handler.setLevel(logging.NOTSET)
