"""Who gets a reference model: verl builds one for a KL term only, our trainer also for the bonus."""

from __future__ import annotations

import pytest
from hydra import compose, initialize_config_module
from verl.trainer.ppo.utils import Role, need_reference_policy
from verl.trainer.ppo.v1 import get_trainer_cls

from verl_care.settings import CareConfig


@pytest.mark.parametrize(
    ("overrides", "role"),
    [
        ([], Role.ActorRolloutRef),  # the bonus needs it
        (["care.bonus=none"], Role.ActorRollout),  # the noKL baseline has none, nor its memory
        (["care.bonus=none", "actor_rollout_ref.actor.use_kl_loss=true"], Role.ActorRolloutRef),
    ],
)
def test_role_of_the_worker(overrides, role):
    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose("care_quickstart", overrides)
    trainer = object.__new__(get_trainer_cls("care"))
    trainer.config = config
    trainer.use_reference_policy = CareConfig.from_config(config).needs_reference(config)
    trainer._init_resource_pool_mgr()
    assert list(trainer.role_worker_mapping) == [role]
    assert trainer.mapping[role] == "global_pool"


def test_verl_asks_for_one_with_a_kl_term_only():
    with initialize_config_module("verl.trainer.config", version_base=None):
        assert not need_reference_policy(compose("care_quickstart"))
        assert need_reference_policy(compose("care_quickstart", ["actor_rollout_ref.actor.use_kl_loss=true"]))
