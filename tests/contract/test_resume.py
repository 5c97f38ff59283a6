"""A killed run goes on where it was: to the last bit, in a new process, through verl's own engines and checkpoints."""

import math
import os
import subprocess
import sys

import pytest
import torch

from verl_care.checkpoints.folders import mark_complete, missing_files

PARTS = ["policy", "reference", "optimizer", "learning rate", "reference log-probabilities"]
OFFLOADED = [
    f"actor_rollout_ref.actor.fsdp_config.{what}_offload=true" for what in ("param", "optimizer")
]  # changes where tensors lie, and no bit of them


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("resume")


@pytest.fixture(scope="module")
def runs(folder):
    """Four steps in one process; and its last two again, from the checkpoint, in another one with offloading."""
    found = []
    for plan, overrides in (("unbroken", []), ("resumed", OFFLOADED)):
        command = [sys.executable, "-m", "tests.contract.resumable", str(folder), plan, *overrides]
        done = subprocess.run(
            command, env=os.environ | {"VERL_PLATFORM": "cpu"}, capture_output=True, text=True, timeout=200
        )
        assert done.returncode == 0, done.stderr[-4000:]
        found.append(torch.load(folder / f"{plan}.pt", weights_only=False))
    return found


def differing(one, other):
    assert one.keys() == other.keys()
    return [
        key
        for key, leaf in one.items()
        if not (same_bits(leaf, other[key]) if isinstance(leaf, torch.Tensor) else leaf == other[key])
    ]


def same_bits(one, other):
    return one.dtype == other.dtype and one.shape == other.shape and one.numpy().tobytes() == other.numpy().tobytes()


pytestmark = pytest.mark.timeout(420)


@pytest.mark.parametrize("part", PARTS)
def test_what_was_loaded_is_what_was_saved(runs, part):
    unbroken, resumed = runs
    assert differing(unbroken["half-way"][part], resumed["half-way"][part]) == []


@pytest.mark.parametrize("part", PARTS)
def test_two_more_steps_end_where_four_do(runs, part):
    unbroken, resumed = runs
    assert differing(unbroken["end"][part], resumed["end"][part]) == []


@pytest.mark.parametrize("part", PARTS)
def test_and_those_steps_changed_it(runs, part):
    # the comparisons above are of something that moves: every tensor of policy and reference does
    unbroken, _ = runs
    if part == "optimizer":  # has no state before its first step
        before, after = unbroken["half-way"][part], unbroken["end"][part]
    else:
        before, after = unbroken["start"][part], unbroken["end"][part]
    changed = differing(before, after)
    if part in ("policy", "reference"):
        assert set(before) - set(changed) == set()
    assert changed


def test_both_processes_started_from_the_same_model(runs):
    unbroken, resumed = runs
    assert differing(unbroken["start"]["policy"], resumed["start"]["policy"]) == []
    assert differing(unbroken["start"]["policy"], unbroken["start"]["reference"]) == []  # it starts as the policy


def test_distances(runs):
    unbroken, resumed = runs
    assert unbroken["distances"][2:] == resumed["distances"]
    end = unbroken["end"]
    pairs = [(end["reference"][name].double(), tensor.double()) for name, tensor in end["policy"].items()]
    difference = sum(float((ref - pol).square().sum()) for ref, pol in pairs)
    size = sum(float(pol.square().sum()) for _, pol in pairs)
    assert unbroken["distances"][-1] == pytest.approx(math.sqrt(difference / size), rel=1e-5)


def test_the_reference_is_float32(runs):
    for run in runs:
        assert {tensor.dtype for tensor in run["end"]["reference"].values()} == {torch.float32}


def test_the_reference_is_the_average_of_the_policies(runs):
    # two updates with decay 0.9, from theta_0, behind the policies theta_1 and theta_2; theta_1 is not kept, but with
    # three updates less known it must be 0.9 * (0.9 * theta_0 + 0.1 * theta_1) + 0.1 * theta_2 for one same theta_1,
    # which lies near theta_0 (a step of AdamW is about the learning rate, 1e-2, an entry)
    unbroken, _ = runs
    start, half = unbroken["start"]["policy"], unbroken["half-way"]
    for name, theta_2 in half["policy"].items():
        theta_1 = ((half["reference"][name].double() - 0.1 * theta_2) / 0.9 - 0.9 * start[name]) / 0.1
        assert float((theta_1 - start[name]).abs().max()) < 0.012


def test_verl_writes_the_files_that_a_complete_checkpoint_has(runs, folder):
    checkpoint = folder / "global_step_2"
    mark_complete(checkpoint, world_size=1, has_reference=True)
    assert missing_files(checkpoint) == ["data.pt"]  # the trainer's own, which did not run here
