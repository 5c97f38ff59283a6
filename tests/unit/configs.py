"""A configuration with another value, and what its check says."""

import pytest
from omegaconf import OmegaConf, open_dict

from verl_care.checks import check
from verl_care.settings import CareConfigError


def put(config, key, value):
    with open_dict(config):
        OmegaConf.update(config, key, value, force_add=True)


def message(config):
    with pytest.raises(CareConfigError) as caught:
        check(config)
    return str(caught.value)
