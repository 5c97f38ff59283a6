"""`freeze_vision_tower` on plain modules; tests/contract/test_ablation_seams.py has it on verl's engine."""

import pytest
from torch import nn

from verl_care.vision_tower import freeze_vision_tower


def model(**parts):
    inner = nn.ModuleDict({"language_model": nn.Linear(2, 2), **parts})
    return nn.ModuleDict({"model": inner, "lm_head": nn.Linear(2, 3)})


def test_the_tower_and_nothing_else():
    tower = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    whole = model(visual=tower)
    assert freeze_vision_tower(whole) == 4  # two weights, two biases
    frozen = [name for name, parameter in whole.named_parameters() if not parameter.requires_grad]
    assert frozen == [f"model.visual.{name}" for name, _ in tower.named_parameters()]


def test_a_model_without_one():
    with pytest.raises(ValueError, match=r"ModuleDict has no part named 'visual'.*freeze_vision_tower=false"):
        freeze_vision_tower(model())
