"""The whole chain, from text and tokens to advantage, against numbers of the released code (README.md says whose)."""

import json
from pathlib import Path

import pytest
import torch

from verl_care.algorithm.advantage import group_advantage
from verl_care.algorithm.consistency import answer_likelihood, consistency_bonus
from verl_care.algorithm.spans import answer_span, span_mask
from verl_care.rewards.grading import extract_answer, grade, has_format

GOLDEN = json.loads((Path(__file__).parent / "care_groups.json").read_text(encoding="utf-8"))
TOKEN_TEXTS = {int(token_id): text for token_id, text in GOLDEN["token_texts"].items()}
GROUPS = GOLDEN["groups"]
WELL_FORMED = [number for number, group in enumerate(GROUPS) if group["well_formed"]]
MALFORMED = [number for number, group in enumerate(GROUPS) if not group["well_formed"]]


def score(group: dict) -> dict:
    tokens_per_response = [[TOKEN_TEXTS[token_id] for token_id in ids] for ids in group["response_ids"]]
    length = max(map(len, tokens_per_response))
    mask_NT = span_mask([answer_span(tokens) for tokens in tokens_per_response], length)
    ref_log_prob_NT = torch.tensor([row + [0.0] * (length - len(row)) for row in group["reference_log_probs"]])
    accuracy_N = torch.tensor([grade(group["problem_type"], r, group["ground_truth"]) for r in group["responses"]])
    format_N = torch.tensor([float(has_format(response)) for response in group["responses"]])
    likelihood_N = answer_likelihood(ref_log_prob_NT, mask_NT)
    group_N = [0] * len(accuracy_N)
    config = group["config"]
    bonus = consistency_bonus(
        accuracy_N,
        likelihood_N,
        group_N,
        bonus_coefficient=config["bonus_coefficient"],
        confidence_upper_bound=config["confidence_upper_bound"] or 1.0,
        consistency_margin=config["consistency_margin"] or 0.0,
    )
    reward_N = accuracy_N + format_N + bonus.bonus_N
    return {
        "accuracy": accuracy_N,
        "format": format_N,
        "mask": [row[: len(tokens)].tolist() for row, tokens in zip(mask_NT.int(), tokens_per_response, strict=True)],
        "likelihood": likelihood_N,
        "selected": bonus.selected_N,
        "threshold": bonus.threshold_N,
        "bonus": bonus.bonus_N,
        "reward": reward_N,
        "advantage": group_advantage(reward_N, group_N),
    }


def close(actual: torch.Tensor, expected: list[float]) -> bool:
    return actual.tolist() == pytest.approx(expected, abs=1e-5)


def test_the_file_is_the_one_described():
    assert (len(GROUPS), len(WELL_FORMED), len(MALFORMED)) == (80, 52, 28)
    assert {group["problem_type"] for group in GROUPS} == {
        "multiple choice",
        "numerical",
        "OCR",
        "free-form",
        "regression",
    }


@pytest.mark.parametrize("number", range(len(GROUPS)))
def test_accuracy_and_format_always_agree(number):
    group = GROUPS[number]
    actual = score(group)
    assert close(actual["accuracy"], group["expected"]["accuracy"])
    assert close(actual["format"], group["expected"]["format"])


@pytest.mark.parametrize("number", WELL_FORMED)
def test_well_formed_groups_agree(number):
    group = GROUPS[number]
    actual, expected = score(group), group["expected"]
    for name in ("bonus", "reward", "advantage"):
        assert close(actual[name], expected[name]), name
    assert actual["selected"].tolist() == expected["selected"]
    if expected["mean_likelihood"] is None:
        assert actual["threshold"].isnan().all()
    else:
        assert close(actual["threshold"], [expected["mean_likelihood"]] * len(expected["accuracy"]))
    for response, accuracy in enumerate(expected["accuracy"]):
        if accuracy > 0.1:
            assert actual["mask"][response] == expected["answer_token_mask"][response]
            assert actual["likelihood"][response].item() == pytest.approx(expected["likelihood"][response], abs=1e-5)


@pytest.mark.parametrize("number", MALFORMED)
def test_malformed_groups_score_the_block_they_judge(number):
    group = GROUPS[number]
    actual = score(group)
    for response, ids, mask in zip(group["responses"], group["response_ids"], actual["mask"], strict=True):
        scored = "".join(TOKEN_TEXTS[token_id] for token_id, scored in zip(ids, mask, strict=True) if scored)
        # Every way Qwen's tokenizer cuts these responses keeps the bracket with the answer and nothing else.
        assert scored.removeprefix(">").strip() == (extract_answer(response) or "")
    assert not actual["selected"][actual["likelihood"].isnan()].any()
