"""What a run takes of GPUs, host memory and disk."""

from pathlib import Path

import pytest

from recipes.preflight import checks
from tests.unit.preflight.test_memory import qwen
from verl_care.doctor.finding import FAIL

ROOT = Path(__file__).parents[3]


def sizes(config):
    """The findings on memory and disk."""
    plan = checks.Preflight(config)
    return {name: getattr(plan, name)() for name in ("update_memory", "generation_memory", "host_memory", "disk")}


@pytest.mark.parametrize("hardware", ["4x80gb", "8x80gb", "2nodes_x8", "1x141gb"])
def test_every_preset_holds_the_7b_model(composed_run, hardware):
    found = sizes(composed_run(f"care/hardware={hardware}"))
    assert found["update_memory"].status == "ok", found
    assert found["generation_memory"].status == "ok", found


def test_one_gpu_without_offloading_does_not(composed_run):
    found = sizes(composed_run("care/hardware=1x141gb", "care/offload=none"))["update_memory"]
    assert found.status == FAIL
    # 8 bytes * 8.29e9 = 61.8 GiB
    assert "Adam's moments 61.8" in found.text
    assert found.text.endswith("of 139: Adam's moments is too big")
    assert found.mend == "care/offload=always"


def test_too_many_tokens(composed_run):
    found = sizes(composed_run("actor_rollout_ref.actor.ppo_max_token_len_per_gpu=65536"))["update_memory"]
    assert found.text.endswith("logits is too big")
    assert "ppo_max_token_len_per_gpu" in found.mend


def test_a_share_too_small_for_vllm(composed_run):
    found = sizes(composed_run("actor_rollout_ref.rollout.gpu_memory_utilization=0.15"))["generation_memory"]
    assert found.status == FAIL
    # 0.15 * 79 = 11.85; weights 2 * 8.29e9 bytes = 15.4 GiB, and a response's cache 2 * 17152 * 28 * 1024 = 0.9
    assert "needs at least 16 GiB and may take 12" in found.text


def test_too_little_disk(composed_run, monkeypatch):
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 100 * 2**30}))
    found = sizes(composed_run())["disk"]
    # 16 bytes * 8.29e9 = 123.6 GiB; the next is written before the last goes
    assert (found.status, found.text.startswith("2 checkpoints of 123.6 GiB; 100 free in ")) == (FAIL, True)
    assert sizes(composed_run("trainer.save_freq=-1"))["disk"].status == "ok"
    # 1,500 steps, one every 500, none deleted
    assert sizes(composed_run("trainer.max_actor_ckpt_to_keep=null"))["disk"].text.startswith("3 checkpoints")
    assert sizes(composed_run("trainer.max_actor_ckpt_to_keep=-1"))["disk"].text.startswith("3 checkpoints")
    old_key = "+trainer.remove_previous_ckpt_in_save=true"
    assert sizes(composed_run("trainer.max_actor_ckpt_to_keep=null", old_key))["disk"].text.startswith("2 checkpoints")
    endless = sizes(composed_run("trainer.max_actor_ckpt_to_keep=null", "trainer.total_training_steps=null"))["disk"]
    assert (endless.status, endless.text.startswith("every 500 steps 123.6 GiB that stay")) == ("note", True)
    assert "max_actor_ckpt_to_keep=1" in endless.mend


def test_no_reference_no_place_for_it(composed_run):
    assert "reference" in sizes(composed_run())["host_memory"].text
    assert "reference" not in sizes(composed_run("care/method=no_kl"))["host_memory"].text


def test_the_table_of_machines_says_what_the_preflight_says(composed_run, tmp_path_factory):
    small = tmp_path_factory.mktemp("3b")
    qwen(2048, 36, 16, 2, 11008, 151936, True).save_pretrained(small)
    table = (ROOT / "recipes/README.md").read_text()
    for hardware in ("4x80gb", "8x80gb", "2nodes_x8", "1x141gb"):
        large, little = (
            checks.Preflight(composed_run(f"care/hardware={hardware}", *override))
            for override in ([], [f"actor_rollout_ref.model.path='{small}'"])
        )
        (row,) = [line for line in table.splitlines() if line.startswith(f"| `{hardware}`")]
        cells = [cell.split()[0].rstrip(",") for cell in row.split("|")[2:5]]
        host = large.host_memory().text
        assert cells == [_most(large), _most(little), host.split()[0]], hardware


def _most(run):
    """GiB of the larger stage."""
    return max((run.update_memory().text.split()[0], run.generation_memory().text.split()[0]), key=int)
