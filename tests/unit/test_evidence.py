"""The plan of the evidence, its warm starts, and that its runs are done once."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Barrier

import pytest
import torch
from hydra import compose, initialize_config_module
from rich.console import Console
from transformers import AutoTokenizer

from data_prep.miniature_world import LETTERS
from recipes.evidence import plan, runs
from recipes.evidence.plan import VARIANTS, Plan, Run
from recipes.evidence.results import GREEDY, PROBE
from recipes.evidence.runs import Evidence
from recipes.evidence.warm_start import hole
from recipes.quickstart import stages
from recipes.quickstart.probe import CONCLUSIONS
from verl_care.algorithm.consistency import answer_likelihood
from verl_care.algorithm.spans import answer_span, span_mask
from verl_care.settings import LIKELIHOOD_MEANS


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_is_a_configuration(variant: str):
    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose("care_quickstart", Run(variant, 7).overrides(30))
    assert config.trainer.total_training_steps == 30
    assert config.data.seed == config.actor_rollout_ref.rollout.seed == 7


def test_variants_differ():
    with initialize_config_module("verl.trainer.config", version_base=None):
        made = [compose("care_quickstart", list(overrides)) for overrides in VARIANTS.values()]
    assert len({repr((c.care, c.actor_rollout_ref.actor)) for c in made}) == len(VARIANTS)


@pytest.mark.parametrize(
    ("likelihoods", "closed"),
    [
        ((0.84, 0.64, 0.25, 0.25, 0.25), True),  # as taught
        ((0.822, 0.608, 0.277, 0.758, 0.534), False),  # seed 0 of the first lessons: concluding nothing was as good
        ((0.808, 0.626, 0.447, 0.3, 0.3), False),  # seed 1 of them: so was a word that is no option
        ((0.8, 0.6, 0.25, 0.25, 0.5), False),  # nor any word
        ((0.8, 0.81, 0.25, 0.25, 0.25), False),  # the letter does not hang on the conclusion
        ((0.3, 0.1, 0.1, 0.1, 0.1), False),  # knows nothing
    ],
)
def test_a_warm_start_with_a_hole_is_refused(likelihoods: Sequence[float], closed: bool):
    problem = hole(dict(zip(CONCLUSIONS, likelihoods, strict=True)))
    assert (problem is None) == closed
    assert closed or "--seed" in str(problem)


@pytest.mark.parametrize("letter", LETTERS)
def test_a_letter_is_one_token_so_both_means_are_one_number(letter: str):
    tokenizer = AutoTokenizer.from_pretrained(stages.CHECKPOINT)
    ids = tokenizer(f"<think>a . so mix</think><answer>{letter}</answer>")["input_ids"]
    span = answer_span([tokenizer.decode([token]) for token in ids])
    assert span is not None
    assert tokenizer.decode(ids[span[0] : span[1]]) == f">{letter}"
    assert span[1] - span[0] == 1
    log_prob_1T = -torch.rand(1, len(ids), generator=torch.Generator().manual_seed(0))
    geometric, arithmetic = (
        answer_likelihood(log_prob_1T, span_mask([span], len(ids)), mean=m) for m in LIKELIHOOD_MEANS
    )
    assert geometric.item() == arithmetic.item()


def test_seed_by_seed():
    assert [run.name for run in Plan(("care", "no_kl"), (4, 5), 10)] == ["care_4", "no_kl_4", "care_5", "no_kl_5"]
    assert set(plan.FAST) <= set(plan.FULL.variants)
    assert sorted([*plan.FULL.variants, *plan.BY_NAME]) == sorted(VARIANTS)


class Stub:
    """Stands for training, merging and the warm start, which take minutes; leaves what the real ones leave."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, failing: str = "") -> None:
        self.began: list[str] = []
        self.failing = failing
        monkeypatch.setattr(stages, "write_data", lambda out, console: (out / "data").mkdir(exist_ok=True))
        monkeypatch.setattr(stages, "trained", lambda folder, total: False)
        monkeypatch.setattr(stages, "run_training", self.train)
        monkeypatch.setattr(stages, "merge", lambda folder, console: (folder / "merged").mkdir(exist_ok=True))
        monkeypatch.setattr(stages, "python", self.python)
        monkeypatch.setattr(runs, "tempt", lambda data, reliability, seed: None)

    def train(self, folder: Path, overrides: list[str], minutes: float, tell: Callable[[int, dict], None]) -> None:
        self.began.append(folder.name)
        assert (folder / "model").is_symlink()
        for step in (0, 6):
            dump = folder / f"training/validation/{step}.jsonl"
            dump.parent.mkdir(parents=True, exist_ok=True)
            row = {"input": "A. stir\nB. pour\n", "output": "", "gts": "A"}
            rows = [row | {"data_source": f"x/L{i}"} for i in (1, 2, 3)]
            dump.write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / "training/global_step_6").mkdir(exist_ok=True)
        tell(3, {})
        if folder.name == self.failing:
            raise stages.StageFailed("killed")

    def python(self, log: Path, module: str, name: str, *arguments: object) -> None:
        out = Path(str(arguments[arguments.index("--out") + 1]))
        if name == "recipes.evidence.greedy":
            (out / GREEDY).write_text((out / "training/validation/6.jsonl").read_text())
            (out / PROBE).write_text("{}")
        else:
            out.mkdir(parents=True)
            shutil.copy(stages.CHECKPOINT / "tokenizer.json", out)
            (out / "model.safetensors").touch()


def evidence(folder: Path, variants: tuple[str, ...], tell: Callable[[Run, int], None]) -> Evidence:
    return Evidence(folder / "out", folder / "results", Plan(variants, (3,), 6), tell)


def test_a_run_that_is_done_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    stub = Stub(monkeypatch, failing="care_3")
    told: list[tuple[str, int]] = []
    plan = ("care", "no_kl")

    def tell(run: Run, step: int) -> None:
        told.append((run.name, step))

    with pytest.raises(stages.StageFailed, match="care_3: killed"):
        evidence(tmp_path, plan, tell).make(1, Console(quiet=True))
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["no_kl_3.json"]  # the failure ended only itself
    once = [("care_3", 0), ("care_3", 3)]
    assert told == [*once, ("no_kl_3", 0), ("no_kl_3", 3), ("no_kl_3", 6), *once]  # and was tried once more
    assert float((tmp_path / "out/runs/care_3/seconds").read_text()) >= 0  # what failed has cost time too
    stub.failing = ""
    told.clear()
    evidence(tmp_path, plan, tell).make(1, Console(quiet=True))
    assert stub.began == ["care_3", "no_kl_3", "care_3", "care_3"]
    assert told == [("no_kl_3", 6), ("care_3", 0), ("care_3", 3), ("care_3", 6)]
    assert not list((tmp_path / "out").rglob("global_step_*"))
    assert json.loads((tmp_path / "results/care_3.json").read_text())["steps"] == 6


def test_a_run_that_fails_once_is_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    stub = Stub(monkeypatch, failing="care_3")

    def mended(run: Run, step: int) -> None:
        if stub.began.count("care_3") == 2:
            stub.failing = ""

    evidence(tmp_path, ("care", "no_kl"), mended).make(1, Console(quiet=True))
    assert stub.began == ["care_3", "no_kl_3", "care_3"]
    assert {path.name for path in (tmp_path / "results").iterdir()} == {"care_3.json", "no_kl_3.json"}


def test_runs_without_a_warm_start_are_not_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    stub = Stub(monkeypatch)
    asked = []

    def refused(log: Path, *arguments: object) -> None:
        asked.append(arguments)
        raise stages.StageFailed("a hole")

    monkeypatch.setattr(stages, "python", refused)
    with pytest.raises(stages.StageFailed) as caught:
        evidence(tmp_path, ("care", "no_kl"), lambda run, step: None).make(1, Console(quiet=True))
    assert sorted(str(caught.value).splitlines()) == [
        "care_3: has no warm start", "no_kl_3: has no warm start", "warm start 3: a hole",
    ]  # fmt: skip
    assert (len(asked), stub.began) == (1, [])


def test_a_training_ends_when_the_evidence_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    stub = Stub(monkeypatch)

    def interrupted(run: Run, step: int) -> None:
        if step:
            stopping.stopped.set()  # as the main thread does it, while this one trains
            raise KeyboardInterrupt

    stopping = evidence(tmp_path, ("care", "no_kl"), interrupted)
    with pytest.raises(KeyboardInterrupt):
        stopping.make(1, Console(quiet=True))
    assert stub.began == ["care_3"]  # the other one, still in the queue, is not begun
    with pytest.raises(runs.Stopped):
        stopping._go_on(Run("no_kl", 3), 4)
    assert not (tmp_path / "results").exists()


def test_runs_side_by_side_have_a_core_each():
    available = os.sched_getaffinity(0)
    with runs._a_core_each(2) as pool:
        both = Barrier(2)
        shares = list(pool.map(lambda _: (both.wait(), os.sched_getaffinity(0))[1], range(2)))
    assert set.union(*shares) == available
    assert len(available) < 2 or not shares[0] & shares[1]
    assert os.sched_getaffinity(0) == available


def test_seconds_add_up_over_calls(tmp_path: Path):
    assert runs._add_seconds(tmp_path, 2.5) == 2.5
    assert runs._add_seconds(tmp_path, 4.0) == 6.5
