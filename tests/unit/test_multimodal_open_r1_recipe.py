"""The recipe's settings, read off the configuration that Hydra composes."""

import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from verl_care.checks import check


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    (root / "multimodal_open_r1").mkdir()
    (root / "multimodal_open_r1" / "training.parquet").touch()
    with pytest.MonkeyPatch.context() as patch, initialize_config_module("verl.trainer.config", version_base=None):
        patch.setenv("VERL_CARE_DATA", str(root))
        config = compose("care_multimodal_open_r1")
        OmegaConf.resolve(config)
    return config


@pytest.mark.parametrize(
    ("key", "value"),
    {
        "care.bonus": "hard",
        "algorithm.adv_estimator": "care",
        "actor_rollout_ref.actor.use_kl_loss": False,
        "actor_rollout_ref.rollout.n": 8,
        "data.train_batch_size": 8,
        "actor_rollout_ref.actor.ppo_mini_batch_size": 8,  # one update a step: no clip takes effect
        "data.max_prompt_length": 8192,
        "data.max_response_length": 768,
        "data.image.max_pixels": 2_359_296,
        "trainer.total_epochs": 1,
        "trainer.test_freq": -1,
        "trainer.val_before_train": False,
    }.items(),
)
def test_setting(config, key, value):
    assert OmegaConf.select(config, key) == value


def test_it_is_accepted(config):
    check(config)


def test_an_image_of_the_largest_size_fits_into_the_prompt(config):
    tokens = config.data.image.max_pixels // (28 * 28)
    assert tokens == 3009  # 2,359,296 / 784 = 3009.3
    assert tokens < config.data.max_prompt_length / 2
