"""FSDP2 over two ranks with different groups, one with clips and one without: the same update as verl's engine."""

import os
import subprocess
import sys

import pytest
import torch

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "tests.contract.packed_ranks", str(folder)]
    done = subprocess.run(
        command, env=os.environ | {"VERL_PLATFORM": "cpu"}, capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [torch.load(folder / f"rank_{rank}.pt", weights_only=True) for rank in range(2)]


def test_the_same_update(ranks):
    for rank in ranks:
        stock, packed = rank[False], rank[True]
        assert packed["loss"] == pytest.approx(stock["loss"], abs=1e-6)
        assert float((packed["gradients"] - stock["gradients"]).norm() / stock["gradients"].norm()) < 1e-5


def test_the_ranks_agree_and_both_contribute(ranks):
    first, second = ranks
    assert torch.equal(first[True]["gradients"], second[True]["gradients"])
    assert first[True]["loss"] != second[True]["loss"]


def test_every_rank_takes_as_many_micro_batches(ranks):
    assert len({len(rank[True]["rows"]) for rank in ranks}) == 1
    assert [sum(rank[True]["rows"]) for rank in ranks] == [4, 4]
    assert len(ranks[0][True]["rows"]) > 1
