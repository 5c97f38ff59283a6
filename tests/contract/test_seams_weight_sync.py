"""The socket of a weight sync: verl names it alike for every training of a host, and ours are told apart."""

import pytest
import torch
from verl.workers.rollout.vllm_rollout.bucketed_weight_transfer import BucketedWeightReceiver, BucketedWeightSender

from tests.contract.seams import seam, unpatched_source
from verl_care.compat import own_socket

HANDLE = "ipc:///tmp/rl-colocate-zmq-01000000-replica-0-rank-0.sock"


def test_verl_names_it_by_the_job_alone():
    """Once verl names it otherwise, compat._keep_trainings_apart can go."""
    for relative, line in (
        (
            "vllm_rollout.py",
            'f"ipc:///tmp/rl-colocate-zmq-{job_id}-replica-{self.replica_rank}-rank-{local_rank}.sock"',
        ),
        ("vllm_rollout.py", "job_id = ray.get_runtime_context().get_job_id()"),
        ("utils.py", 'f"ipc:///tmp/rl-colocate-zmq-{job_id}-replica-{replica_rank}-rank-{trainer_rank}.sock"'),
        ("utils.py", 'os.environ.get("VERL_RAY_JOB_ID", "0")'),
    ):
        text = unpatched_source(f"workers/rollout/vllm_rollout/{relative}")
        seam(line in text, f"{relative}: {line}", "compat._keep_trainings_apart")


def test_both_ends_of_one_training_meet_and_those_of_two_do_not(monkeypatch: pytest.MonkeyPatch):
    names = []
    for raylet in ("41", "42"):
        monkeypatch.setenv("RAY_RAYLET_PID", raylet)
        sender = BucketedWeightSender(zmq_handle=HANDLE, bucket_size_mb=1, use_shm=True)
        receiver = BucketedWeightReceiver(HANDLE, torch.device("cpu"), use_shm=True)
        seam(sender.zmq_handle == receiver.zmq_handle, "the argument zmq_handle of both", "compat")
        names.append(sender.zmq_handle)
    assert names == [
        "ipc:///tmp/rl-colocate-zmq-01000000-replica-0-rank-0-raylet-41.sock",
        "ipc:///tmp/rl-colocate-zmq-01000000-replica-0-rank-0-raylet-42.sock",
    ]


def test_a_process_without_a_raylet_keeps_its_name(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("RAY_RAYLET_PID", raising=False)
    assert own_socket(HANDLE) == HANDLE
