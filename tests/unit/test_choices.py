"""The tokens that a reference picks from its logits."""

import pytest
import torch

from verl_care.ablations import choices
from verl_care.ablations.choices import CHOICE, PICKS, likeliest, sampled
from verl_care.ablations.refgen import reference_accuracy
from verl_care.settings import REFGEN_ANSWERS


def test_the_likeliest():
    assert likeliest(torch.tensor([[[0.0, 2.0, 1.0], [3.0, -1.0, 2.0]]])).tolist() == [[1, 0]]


def test_draws_follow_the_softmax():
    torch.manual_seed(0)
    drawn = sampled(torch.tensor([0.1, 0.2, 0.7]).log().expand(1, 20_000, 3))
    assert drawn.shape == (1, 20_000)
    # of 20,000 draws: 2,000 +- 42, 4,000 +- 57, 14,000 +- 65 (square root of n p (1 - p)); within five of these
    for count, expected, deviation in zip(drawn.flatten().bincount(), (2000, 4000, 14000), (42, 57, 65), strict=True):
        assert abs(int(count) - expected) < 5 * deviation


def test_each_position_is_drawn_from_its_own_logits(monkeypatch):
    monkeypatch.setattr(choices, "ROWS_AT_ONCE", 4)  # ten positions in three parts
    only = torch.arange(10) % 3
    logits = torch.full((1, 10, 3), -torch.inf).scatter(2, only.view(1, 10, 1), 0.0)
    assert sampled(logits)[0].tolist() == only.tolist()


def test_half_precision_is_drawn_from_in_full():
    torch.manual_seed(0)
    logits = torch.zeros(1, 30_000, 2, dtype=torch.bfloat16)
    assert abs(int(sampled(logits).sum()) - 15_000) < 5 * 87  # square root of 30,000 / 4


def test_they_come_as_an_output_of_the_model():
    logits = torch.tensor([[[0.0, 1.0]]])
    assert choices.choices(logits, None, pick=likeliest)[CHOICE].tolist() == [[1]]
    loss, metrics = choices.choices(model_output={}, data=None, pick=likeliest)  # how verl asks for a loss
    assert (loss.item(), metrics) == (0, {})


def test_every_setting_has_a_pick():
    assert set(PICKS) == set(REFGEN_ANSWERS)


@pytest.mark.parametrize("answer", [">A", ">B"])
def test_the_mean_bonus_is_the_likelihood_of_the_right_letter(answer):
    words = ["<", "answer", ">A", ">B", "</", ">"]
    response = [0, 1, words.index(answer), 4, 1, 5]
    probability = torch.full((1, len(response), len(words)), 0.02)
    probability[0, 2] = torch.tensor([0.0, 0.0, 0.3, 0.7, 0.0, 0.0])  # the right letter, A, has 0.3
    torch.manual_seed(0)
    drawn = sampled(probability.log().expand(5000, -1, -1).flatten(0, 1)[None]).view(5000, -1)
    accuracies = [
        reference_accuracy(
            response, choice, (2, 3), ground_truth="A", problem_type="multiple choice",
            text_of=lambda ids: "".join(words[i] for i in ids),
        )
        for choice in drawn.tolist()
    ]  # fmt: skip
    # whatever the response answered: 0.3 +- 0.0065, the square root of 0.3 * 0.7 / 5000
    assert sum(accuracies) / 5000 == pytest.approx(0.3, abs=5 * 0.0065)
