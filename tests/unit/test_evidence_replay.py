"""A training's updates made once more without verl, and what is said of the two that died."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor
from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration
from verl.trainer.ppo.core_algos import kl_penalty_forward

from data_prep.miniature import write_world
from data_prep.seed_bench_r1 import convert
from recipes.evidence.learner import Update, k3, token_log_probs
from recipes.evidence.replay import __main__ as command
from recipes.evidence.replay import collapse, updates
from recipes.evidence.simulator import Simulator
from recipes.quickstart.consistency_rule import respond
from recipes.quickstart.examples import load_examples
from recipes.quickstart.stages import CHECKPOINT
from verl_care.records import groups, jsonl

DIED = Path(updates.__file__).parent / "died"


@pytest.fixture(scope="module")
def processor() -> Any:
    return AutoProcessor.from_pretrained(CHECKPOINT)


@pytest.fixture
def model() -> Any:
    return Qwen2_5_VLForConditionalGeneration.from_pretrained(CHECKPOINT).float()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_world(folder, seed=2, rows=4, level_rows=1)
    convert(folder, folder / "data", style="plain")
    return folder / "data"


def replay_with(processor: Any, model: Any, **changes: float) -> updates.Replay:
    return updates.Replay(model, processor.tokenizer, replace(UPDATE, **changes))


UPDATE = Update(lr=1e-3, clip=5.0, weight_decay=0.0)


def recorded(processor: Any, seen: Sequence[str], rewards: dict[str, float]) -> dict[str, Any]:
    """A group that answers with these letters."""
    texts = {letter: respond(seen, "stir", letter) for letter in rewards}
    lengths = {letter: len(processor.tokenizer(text)["input_ids"]) + 1 for letter, text in texts.items()}
    responses = [
        {"text": texts[letter], "length": lengths[letter], "finish": "stop", "reward": reward}
        for letter, reward in rewards.items()
    ]
    return {"responses": responses}


def log_probs_of(made: updates.Replay, example: Any, group: dict[str, Any]) -> Tensor:
    """(responses,)"""
    tokens = [made._as_tokenized(response) for response in group["responses"]]
    with torch.no_grad():
        log_prob_T = token_log_probs(made.policy, [example], tokens)
    return torch.stack([part.sum() for part in log_prob_T.split([len(response) for response in tokens])])


def test_the_first_update_moves_every_weight_by_the_rate_towards_the_better_answer(data, processor, model):
    """AdamW's first step is the sign of the gradient: m / (1 - .9) = g and sqrt(v / (1 - .999)) = |g|."""
    (example, *_) = load_examples(data / "training_6k.parquet", processor, model)
    made = replay_with(processor, model)
    group = recorded(processor, example.seen, {"A": 2.0, "B": 1.0})
    before, weights = log_probs_of(made, example, group), {n: p.detach().clone() for n, p in model.named_parameters()}
    step = made.step([example], [group])
    better, worse = (log_probs_of(made, example, group) - before).tolist()
    assert better > 0 > worse
    assert step.gradient > 0
    moved = torch.cat([(p.detach() - weights[n]).abs().flatten() for n, p in model.named_parameters()])
    assert float(moved.max()) == pytest.approx(1e-3, rel=1e-3)
    assert step.moved == pytest.approx(float(moved.square().mean().sqrt()) / 1e-3, rel=1e-3)
    assert (made.steps, made.respelled, made.lost) == (1, 0, 0)


def test_a_group_that_fails_alike_has_no_gradient_and_momentum_goes_on(data, processor, model):
    first, second, *_ = load_examples(data / "training_6k.parquet", processor, model)
    made = replay_with(processor, model)
    made.step([first], [recorded(processor, first.seen, {"A": 2.0, "B": 1.0})])
    weights = {n: p.detach().clone() for n, p in model.named_parameters()}
    step = made.step([second], [recorded(processor, second.seen, {"A": 0.0, "B": 0.0})])
    assert step.gradient == 0
    moved = max(float((p.detach() - weights[n]).abs().max()) for n, p in model.named_parameters())
    # m = .9 * .1 g, v = .999 * .001 g^2: m / (1 - .81) = .4737 g, sqrt(v / (1 - .998001)) = .7069 |g|
    assert moved == pytest.approx(1e-3 * 0.4737 / 0.7069, rel=1e-2)


def test_the_reference_follows_every_so_many_steps(data, processor, model):
    (example, *_) = load_examples(data / "training_6k.parquet", processor, model)
    made = replay_with(processor, model, kl=0.04, decay=0.75, every=2)
    group = recorded(processor, example.seen, {"A": 2.0, "B": 1.0})
    first = made.reference.lm_head.weight.clone()
    made.step([example], [group])
    assert torch.equal(made.reference.lm_head.weight, first)
    made.step([example], [group])
    torch.testing.assert_close(made.reference.lm_head.weight, 0.75 * first + 0.25 * model.lm_head.weight.detach())


def test_the_gradient_of_the_kl_term(data, processor, model):
    """A group rewarded alike has no other. d/dl (exp(r - l) - (r - l) - 1) = 1 - exp(r - l)."""
    (example, *_) = load_examples(data / "training_6k.parquet", processor, model)
    made = replay_with(processor, model, kl=0.04)
    with torch.no_grad():
        made.reference.lm_head.weight.mul_(0.9)
    group = recorded(processor, example.seen, {"A": 1.0, "B": 1.0})
    tokens = [made._as_tokenized(response) for response in group["responses"]]
    ours_T = token_log_probs(model, [example], tokens)
    theirs_T = token_log_probs(made.reference, [example], tokens)
    slope_T = 0.04 * (1 - (theirs_T - ours_T.detach()).exp())
    sum(
        ((slope * ours).mean() / 2 for slope, ours in zip(slope_T.chunk(2), ours_T.chunk(2), strict=True)),
        start=torch.zeros(()),
    ).backward()
    expected = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).norm()
    assert made.step([example], [group]).gradient == pytest.approx(float(expected), rel=1e-4)


def test_the_kl_term_and_its_limits_are_verls():
    verls: Any = kl_penalty_forward  # its hints ask for a type that no tensor has
    reference_T = torch.tensor([-0.1, -0.1, -30.0, -0.1, -2.0])
    ours_T, theirs_T = (torch.tensor([-0.2, -3.5, -0.1, -40.0, -1.0], requires_grad=True) for _ in ("ours", "theirs"))
    ours, theirs = k3(ours_T, reference_T), verls(theirs_T, reference_T, "low_var_kl")
    torch.testing.assert_close(ours, theirs)
    ours.sum().backward()
    theirs.sum().backward()
    torch.testing.assert_close(ours_T.grad, theirs_T.grad)
    assert ours_T.grad is not None
    assert (ours_T.grad == 0).tolist() == [False, True, True, True, False]


def test_a_gradient_over_the_limit_is_clipped_and_told_unclipped(data, processor, model):
    (example, *_) = load_examples(data / "training_6k.parquet", processor, model)
    made = replay_with(processor, model, clip=0.01)
    step = made.step([example], [recorded(processor, example.seen, {"A": 2.0, "B": 1.0})])
    clipped = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).norm()
    assert step.gradient > 0.02
    assert float(clipped) == pytest.approx(0.01, rel=1e-3)


def test_a_record_with_a_hole_is_not_gone_through(training, data):
    path = groups.place(training)
    kept = [record for record in jsonl.read(path) if record["step"] != 1]
    path.unlink()
    jsonl.append(path, kept)
    with pytest.raises(ValueError, match="lacks step 1"):
        list(updates.replay(training, CHECKPOINT, data))


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("actor_rollout_ref.actor.entropy_coeff", 0.001, r"entropy_coeff was 0\.001"),
        ("actor_rollout_ref.actor.ppo_mini_batch_size", 2, "ppo_mini_batch_size was 2"),
        ("actor_rollout_ref.actor.optim.lr_scheduler_type", "cosine", "lr_scheduler_type was cosine"),
        ("actor_rollout_ref.actor.ppo_epochs", 2, "ppo_epochs was 2"),
        ("actor_rollout_ref.actor.kl_loss_type", "kl", "kl_loss_type was kl"),
        ("care.groups_per_step", 3, "groups_per_step was 3: of 4 groups"),
    ],
)
def test_a_training_that_cannot_be_made_once_more_is_named(key: str, value: Any, said: str):
    config = OmegaConf.load(DIED / "grpo_1" / "config.yaml")
    OmegaConf.update(config, key, value)
    with pytest.raises(ValueError, match=said):
        updates.update_of(config)


@pytest.mark.parametrize(("run", "method", "margin"), [("grpo_1", "grpo", 0.0), ("care_margin_4", "care", 0.01)])
def test_the_simulators_settings_are_the_runs(run: str, method: str, margin: float):
    settings = collapse.settings_of(OmegaConf.load(DIED / run / "config.yaml"), 100)
    assert (settings.method, settings.margin, settings.clip, settings.lr) == (method, margin, 5.0, 2e-4)
    assert (settings.prompts, settings.group, settings.decay, settings.every) == (4, 8, 0.995, 10)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("care.bonus", "refgen", r"care\.bonus=refgen"),
        ("care.reference", "ema", r"care\.bonus=none, use_kl_loss=True, care\.reference=ema"),  # KL-EMA
        ("actor_rollout_ref.actor.kl_loss_coef", 0.1, r"kl_loss_coef was 0\.1"),
        ("care.accuracy_threshold", 0.5, r"accuracy_threshold was 0\.5"),
    ],
)
def test_what_the_simulator_lacks_is_named(key: str, value: Any, said: str):
    config = OmegaConf.load(DIED / "grpo_1" / "config.yaml")
    OmegaConf.update(config, key, value)
    with pytest.raises(ValueError, match=said):
        collapse.settings_of(config, 100)


def test_going_on_begins_with_the_replays_weights_and_momentum(data, processor, model, monkeypatch):
    examples = load_examples(data / "training_6k.parquet", processor, model)
    made = replay_with(processor, model)
    made.step(examples[:1], [recorded(processor, examples[0].seen, {"A": 2.0, "B": 1.0})])
    seen = []

    def step(self: Simulator, rows: Sequence[Any]) -> dict[str, float]:
        self.steps += 1
        seen.append((self.steps, self.policy.lm_head.weight, self.optimizer.state_dict()["state"], self.reference))
        return {"format": 0.5}

    monkeypatch.setattr(Simulator, "step", step)
    settings = collapse.settings_of(OmegaConf.load(DIED / "grpo_1" / "config.yaml"), 100)
    assert collapse.go_on(made, processor, settings, examples, 2) == [0.5, 0.5]
    assert [number for number, *_ in seen] == [2, 3]
    _, head, state, reference = seen[0]
    assert torch.equal(head, model.lm_head.weight)
    assert head is not model.lm_head.weight  # each sampling begins at the same place
    ours = made.optimizer.state_dict()["state"]
    assert all(torch.equal(state[i]["exp_avg"], ours[i]["exp_avg"]) for i in ours)
    assert torch.equal(reference.lm_head.weight, made.reference.lm_head.weight)
    assert not torch.equal(reference.lm_head.weight, head)


@pytest.fixture
def training(data: Path, processor: Any, tmp_path: Path) -> Path:
    """Two steps of two questions, as a training leaves them; the second step fails alike."""
    rows = pq.read_table(data / "training_6k.parquet").to_pylist()
    (tmp_path / "config.yaml").write_text((DIED / "grpo_1" / "config.yaml").read_text())
    for step, rewards in ((1, {"A": 2.0, "B": 1.0}), (2, {"A": 0.0, "B": 0.0})):
        named = [
            recorded(processor, row["extra_info"]["progress"], rewards) | {"id": row["extra_info"]["id"]}
            for row in rows[2 * step - 2 : 2 * step]
        ]
        jsonl.append(groups.place(tmp_path), [{"kind": "group", "step": step} | group for group in named])
        values = {"actor/grad_norm": float(step == 1), "actor/entropy": 0.25}
        jsonl.append(tmp_path / "metrics.jsonl", [{"step": step, "data": values}])
    return tmp_path


def call(main: Callable[[], None], monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("sys.argv", ["replay", *map(str, arguments)])
    main()


def test_the_command_shows_what_was_logged_beside_what_is_made_here(training, data, monkeypatch, capsys):
    monkeypatch.setattr(command, "ROWS", 1)
    call(command.main, monkeypatch, training, "--model", CHECKPOINT, "--data", data)
    first, second = (step for _, step, _ in updates.replay(training, CHECKPOINT, data))
    gradient, differs = f"{first.gradient:.2f}", f"{100 * abs(first.gradient - 1):.2f} %"
    rows = [line.strip("│").split("│") for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert [[cell.strip() for cell in row] for row in rows] == [
        [
            "1-1",
            "1.00",
            gradient,
            differs,
            differs,
            "0.2500",
            f"{first.entropy:.4f}",
            f"{first.moved:.2f}",
        ],
        ["2-2", "0.00", "0.00", "-", "-", "0.2500", f"{second.entropy:.4f}", f"{second.moved:.2f}"],
    ]


def test_the_command_samples_on_from_a_step(training, data, monkeypatch, capsys):
    """Three samplings of six steps, the same behind either step: whole, broken once, and gone."""
    runs = [[1.0] * 6, [0.9, 0.2, 1.0, 1.0, 1.0, 1.0], [0.75] + [0.0] * 5]
    rates = []

    def step(self: Simulator, rows: Sequence[Any]) -> dict[str, float]:
        self.steps += 1
        rates.append(self.optimizer.param_groups[0]["lr"])
        return {"format": runs[self.settings.seed - 100][self.steps - after - 1]}

    monkeypatch.setattr(Simulator, "step", step)
    for after in (1, 2):
        arguments = ("--after", after, "--samplings", 3, "--steps", 6, "--lr", 1e-5)
        call(collapse.main, monkeypatch, training, "--model", CHECKPOINT, "--data", data, *arguments)
        (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
        # least: 1, .2, 0; of the last five: 1, .84, 0
        assert [cell.strip() for cell in row.strip("│").split("│")] == [
            str(after), "0.20", "0.00", "2", "0.84", "0.00", "1",
        ]  # fmt: skip
    assert rates == [1e-5] * (2 * 3 * 6)


def test_a_step_that_the_record_lacks_is_named(training, data, monkeypatch, capsys):
    monkeypatch.setattr(Simulator, "step", lambda *_: {"format": 1.0})
    with pytest.raises(SystemExit):
        call(collapse.main, monkeypatch, training, "--model", CHECKPOINT, "--data", data, "--after", 2, 7)
    assert "has no step 7" in capsys.readouterr().err
