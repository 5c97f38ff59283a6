"""Sums that add up to verl's own numbers, however the batch is cut."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from verl import DataProto
from verl.utils.debug.metrics import calculate_debug_metrics

from verl_care.rollout_gap import LARGEST, SUMS, gap_metrics, gap_sums


def total(parts):
    added = {name: sum(part[name] for part in parts) for name in SUMS}
    return added | {LARGEST: max(part[LARGEST] for part in parts)}


def test_by_hand():
    # p = 1/2, 1/4; q = 1/4, 1/4; the third token is masked
    log_p = torch.tensor([[0.5, 0.25, 0.9]]).log()
    log_q = torch.tensor([[0.25, 0.25, 0.1]]).log()
    sums = gap_sums(log_p, log_q, torch.tensor([[True, True, False]]))
    expected = {
        "tokens": 2, "gap": 1 / 4, "gap_squared": 1 / 16, "actor": 3 / 4, "rollout": 1 / 2,
        "actor_squared": 1 / 4 + 1 / 16, "rollout_squared": 1 / 8, "product": 1 / 8 + 1 / 16, "largest": 1 / 4,
    }  # fmt: skip
    assert sums == pytest.approx(expected, abs=1e-7)
    metrics = gap_metrics(sums)
    assert metrics["training/rollout_probs_diff_mean"] == pytest.approx(1 / 8)
    # gaps 1/4 and 0: sqrt((1/16 - 2/64) / 1) = sqrt(1/32)
    assert metrics["training/rollout_probs_diff_std"] == pytest.approx(math.sqrt(1 / 32))
    assert math.isnan(metrics["training/rollout_actor_probs_pearson_corr"])  # q does not vary


@settings(deadline=None)
@given(rows=st.integers(2, 9), length=st.integers(1, 12), cut=st.integers(0, 9), seed=st.integers(0, 999))
def test_the_parts_of_a_batch_add_up_to_verls_metrics_of_the_whole(rows, length, cut, seed):
    generator = torch.Generator().manual_seed(seed)
    log_p, log_q = (torch.rand(rows, length, generator=generator).log() for _ in range(2))
    mask = torch.rand(rows, length, generator=generator) < 0.7
    mask[0, 0] = mask[1, 0] = True
    cut = min(cut, rows)
    parts = [gap_sums(log_p[part], log_q[part], mask[part]) for part in (slice(0, cut), slice(cut, rows))]
    whole = {"old_log_probs": log_p, "rollout_log_probs": log_q, "response_mask": mask, "responses": mask}
    expected = calculate_debug_metrics(DataProto.from_dict(whole))
    found = gap_metrics(total(parts))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if name.endswith("corr") and min(log_p[mask].exp().std(), log_q[mask].exp().std()) < 0.05:
            continue  # verl's float32 loses most of the correlation of near-constants
        assert found[name] == pytest.approx(value, rel=1e-3, abs=1e-6), name


def test_no_token_says_what_verl_says():
    nothing = torch.zeros(1, 2, dtype=torch.bool)
    whole = {"old_log_probs": torch.zeros(1, 2), "rollout_log_probs": torch.zeros(1, 2)}
    expected = calculate_debug_metrics(DataProto.from_dict(whole | {"response_mask": nothing, "responses": nothing}))
    found = gap_metrics(gap_sums(torch.zeros(1, 2), torch.zeros(1, 2), nothing))
    assert found == pytest.approx(expected, nan_ok=True)


def test_one_token_has_no_spread():
    metrics = gap_metrics(gap_sums(torch.zeros(1, 1), torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool)))
    assert math.isnan(metrics["training/rollout_probs_diff_std"])
    assert metrics["training/rollout_probs_diff_mean"] == 0
