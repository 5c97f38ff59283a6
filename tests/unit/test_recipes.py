"""Every published setting, read off the configuration that Hydra composes for each run."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from verl_care.checks import check
from verl_care.platforms.cpu.vllm import ENVIRONMENT
from verl_care.settings import CareConfigError

ROOT = Path(__file__).parents[2]
RECIPES = ["care_seed_bench_r1", "care_seed_bench_r1_margin", "care_video_r1"]
GROUPS = ROOT / "verl_care/config/care"
HARDWARE = {"4x80gb": 4, "8x80gb": 8, "1x141gb": 1, "2nodes_x8": 16}  # ranks


@pytest.fixture(scope="module")
def compose_run(tmp_path_factory):
    """Composes a recipe on data that is there."""
    root = tmp_path_factory.mktemp("data")
    for file in (
        *(f"seed_bench_r1/{name}" for name in ("training_6k", "validation_L1", "validation_L2", "validation_L3")),
        *(f"video_r1/{name}" for name in ("Video-R1-260k", "eval_mmvu")),
    ):
        (root / file).with_suffix(".parquet").parent.mkdir(exist_ok=True)
        (root / file).with_suffix(".parquet").touch()
    with pytest.MonkeyPatch.context() as patch, initialize_config_module("verl.trainer.config", version_base=None):
        patch.setenv("VERL_CARE_DATA", str(root))

        def run(name, *overrides):
            config = compose(name, overrides=list(overrides))
            OmegaConf.resolve(config)
            return config

        yield run


@pytest.fixture(scope="module", params=RECIPES)
def recipe(request, compose_run):
    return request.param, compose_run(request.param)


PUBLISHED = {
    # one prompt, G responses
    "actor_rollout_ref.rollout.n": 8,
    "care.bonus": "hard",
    "care.bonus_coefficient": 0.5,
    "care.confidence_upper_bound": 0.95,
    "care.accuracy_threshold": 0.1,
    "care.likelihood_mean": "geometric",
    "care.scoring_temperature": 1.0,
    "algorithm.adv_estimator": "care",
    # the reference
    "care.reference": "ema",
    "care.ref_ema_decay": 0.995,
    "care.ref_ema_update_every": 10,
    "actor_rollout_ref.ref.fsdp_config.model_dtype": "fp32",
    # loss: mean over responses of the mean over tokens, no KL, no entropy bonus
    "actor_rollout_ref.actor.loss_agg_mode": "seq-mean-token-mean",
    "actor_rollout_ref.actor.use_kl_loss": False,
    "algorithm.use_kl_in_reward": False,
    "actor_rollout_ref.actor.entropy_coeff": 0,
    "actor_rollout_ref.actor.policy_loss.loss_mode": "vanilla",
    # one update of the whole batch makes the ratio 1, so that no clip takes effect
    "data.train_batch_size": 4,
    "actor_rollout_ref.actor.ppo_mini_batch_size": 4,
    "actor_rollout_ref.actor.ppo_epochs": 1,
    # optimizer and schedule
    "actor_rollout_ref.actor.optim.optimizer": "AdamW",
    "actor_rollout_ref.actor.optim.optimizer_impl": "torch.optim",
    "actor_rollout_ref.actor.optim.lr": 1e-6,
    "actor_rollout_ref.actor.optim.betas": [0.9, 0.999],
    "actor_rollout_ref.actor.optim.weight_decay": 0.01,
    "actor_rollout_ref.actor.optim.clip_grad": 5.0,
    "actor_rollout_ref.actor.optim.lr_scheduler_type": "cosine",
    "actor_rollout_ref.actor.optim.lr_warmup_steps": 0,
    "actor_rollout_ref.actor.optim.lr_warmup_steps_ratio": 0.0,
    "actor_rollout_ref.actor.optim.min_lr_ratio": 0.0,
    "actor_rollout_ref.actor.optim.num_cycles": 0.5,
    # bf16 compute on float32 weights
    "actor_rollout_ref.actor.fsdp_config.dtype": "bfloat16",
    "actor_rollout_ref.actor.fsdp_config.model_dtype": "fp32",
    "actor_rollout_ref.model.enable_gradient_checkpointing": True,
    "actor_rollout_ref.actor.freeze_vision_tower": False,
    # lengths and sampling
    "data.max_prompt_length": 16384,
    "data.max_response_length": 768,
    "data.truncation": "error",
    "actor_rollout_ref.rollout.temperature": 1.0,
    "actor_rollout_ref.rollout.top_p": 0.95,
    "actor_rollout_ref.rollout.top_k": 50,
    "actor_rollout_ref.rollout.val_kwargs.temperature": 0.1,
    "actor_rollout_ref.rollout.val_kwargs.top_p": 0.001,
    # frames and pixels
    "data.video.fps": 2.0,
    "data.video.min_frames": 4,
    "data.video.max_frames": 16,
    "data.video.max_pixels": 128 * 28 * 28,
    "data.image": {"max_pixels": 256 * 28 * 28},
    # machine and model
    "trainer.nnodes": 1,
    "trainer.n_gpus_per_node": 4,
    "actor_rollout_ref.model.path": "Qwen/Qwen2.5-VL-7B-Instruct",
    "trainer.save_freq": 500,
}


@pytest.mark.parametrize("key", PUBLISHED)
def test_published(recipe, key):
    found = OmegaConf.select(recipe[1], key)
    found = OmegaConf.to_container(found) if OmegaConf.is_config(found) else found
    assert found == PUBLISHED[key]


DIFFERS = {  # margin, steps, training file
    "care_seed_bench_r1": (0.0, 1500, "seed_bench_r1/training_6k.parquet"),
    "care_seed_bench_r1_margin": (0.01, 1500, "seed_bench_r1/training_6k.parquet"),
    "care_video_r1": (0.01, 1000, "video_r1/Video-R1-260k.parquet"),
}


def test_what_differs_between_runs(recipe):
    name, config = recipe
    margin, steps, file = DIFFERS[name]
    assert config.care.consistency_margin == margin
    assert config.trainer.total_training_steps == steps
    assert config.data.train_files.endswith(f"/{file}")
    assert config.trainer.experiment_name == name.removeprefix("care_")


def test_every_run_passes_the_checks(recipe):
    check(recipe[1])


def test_the_schedule_is_a_cosine_from_1e_6_to_0(recipe):
    """The learning rate of the first, the middle and the last step, by verl's own scheduler."""
    import torch
    from verl.utils.torch_functional import get_cosine_schedule_with_warmup

    optim, steps = recipe[1].actor_rollout_ref.actor.optim, recipe[1].trainer.total_training_steps
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=optim.lr)
    scheduler = get_cosine_schedule_with_warmup(
        optimizer, optim.lr_warmup_steps, steps, optim.min_lr_ratio, optim.num_cycles
    )
    at = [optim.lr * scheduler.lr_lambdas[0](step) for step in (0, steps // 2, steps)]
    assert at == pytest.approx([1e-6, 0.5e-6, 0], abs=1e-12)


def test_every_run_has_its_folder(recipe):
    name = recipe[0].removeprefix("care_")
    readme, script = (ROOT / "recipes" / name / file for file in ("README.md", "run.sh"))
    assert f"--config-name {recipe[0]}" in readme.read_text()
    assert f"--config-name {recipe[0]} " in script.read_text()
    assert len(script.read_text().splitlines()) <= 8


# ---------------------------------------------------------------- methods

KL = {"use_kl_loss": True, "kl_loss_type": "low_var_kl", "kl_loss_coef": 0.04}
METHODS = {  # differences from CARE: settings, and the KL term
    "care": ({}, {}),
    "no_kl": ({"bonus": "none"}, {}),
    "grpo": ({"bonus": "none", "reference": "frozen"}, KL),
    "kl_ema": ({"bonus": "none"}, KL),
    "kl_ema_ha": ({"bonus": "none", "kl_on": "accurate"}, KL),
    "sepkl_ema_ha": ({"bonus": "none", "kl_on": "accurate", "kl_parts": "separate"}, KL),
    "dense_cons": ({"bonus": "dense"}, {}),
    "ref_gen": ({"bonus": "refgen"}, {}),
}


@pytest.mark.parametrize("method", sorted(path.stem for path in (GROUPS / "method").glob("*.yaml")))
def test_a_method_is_one_override(compose_run, method):
    plain, config = compose_run("care_seed_bench_r1"), compose_run("care_seed_bench_r1", f"care/method={method}")
    settings, kl = METHODS[method]
    care = check(config)
    assert config.care == {**plain.care, **settings}
    assert {key: value for key, value in config.actor_rollout_ref.actor.items() if key in KL} == {
        key: kl.get(key, plain.actor_rollout_ref.actor[key]) for key in KL
    }
    assert care.needs_reference(config) == (method != "no_kl")


def test_every_method_is_tested():
    assert set(METHODS) == {path.stem for path in (GROUPS / "method").glob("*.yaml")}


def test_a_method_keeps_the_margin_of_its_run(compose_run):
    config = compose_run("care_video_r1", "care/method=dense_cons")
    assert (config.care.bonus, config.care.consistency_margin) == ("dense", 0.01)


# ---------------------------------------------------------------- machines


@pytest.mark.parametrize("hardware", sorted(path.stem for path in (GROUPS / "hardware").glob("*.yaml")))
def test_the_batch_is_the_same_on_every_machine(compose_run, hardware):
    config = compose_run("care_seed_bench_r1", f"care/hardware={hardware}")
    check(config)
    ranks = config.trainer.nnodes * config.trainer.n_gpus_per_node
    assert ranks == HARDWARE[hardware]
    responses = config.data.train_batch_size * config.actor_rollout_ref.rollout.n
    assert responses == 4 * 8
    assert responses % ranks == 0  # no padding responses
    actor = config.actor_rollout_ref.actor
    assert actor.ppo_mini_batch_size == 4
    assert actor.ppo_max_token_len_per_gpu >= config.data.max_prompt_length + config.data.max_response_length
    assert actor.fsdp_config.offload_policy == (hardware == "1x141gb")


OFFLOADS = {  # param, optimizer, policy
    "preset": (False, False, True),  # 1x141gb's own
    "none": (False, False, False),
    "optimizer": (False, True, False),
    "stages": (True, True, False),
    "always": (False, False, True),
}


@pytest.mark.parametrize("offload", sorted(path.stem for path in (GROUPS / "offload").glob("*.yaml")))
def test_offloading_has_the_last_word(compose_run, offload):
    config = compose_run("care_video_r1", "care/hardware=1x141gb", f"care/offload={offload}")
    check(config)
    fsdp = config.actor_rollout_ref.actor.fsdp_config
    assert (fsdp.param_offload, fsdp.optimizer_offload, fsdp.offload_policy) == OFFLOADS[offload]


def test_a_cpu_is_no_gpu_preset(compose_run):
    config = compose_run("care_seed_bench_r1", "care/platform=cpu")
    check(config)
    assert (config.trainer.device, config.trainer.nnodes, config.trainer.n_gpus_per_node) == ("cpu", 1, 1)
    # what `serve` and the measures set for the same vLLM
    assert ENVIRONMENT.items() <= dict(config.ray_kwargs.ray_init.runtime_env.env_vars).items()


@pytest.mark.parametrize("platform", sorted(path.stem for path in (GROUPS / "platform").glob("*.yaml")))
def test_care_base_takes_nothing_back_that_a_platform_says(compose_run, platform):
    config = compose_run("care_seed_bench_r1", f"care/platform={platform}", "care/hardware=4x80gb")
    said = OmegaConf.load(GROUPS / "platform" / f"{platform}.yaml")
    merged = OmegaConf.merge(config, said)
    taken = {key for key in ("trainer", "actor_rollout_ref", "reward", "transfer_queue") if merged[key] != config[key]}
    assert not taken


# ---------------------------------------------------------------- what does not go together


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["care.kl_on=accurate"], ["care.kl_on=accurate", "use_kl_loss=true", "care.kl_on=all"]),
        (["care.kl_parts=separate"], ["care.kl_parts=separate", "use_kl_loss=true", "care.kl_parts=joint"]),
        (
            ["care/method=sepkl_ema_ha", "actor_rollout_ref.actor.loss_agg_mode=token-mean"],
            ["loss_agg_mode=token-mean", "seq-mean-token-mean", "care.kl_parts=joint"],
        ),
        (["care.kl_on=most"], ["care.kl_on=most", "not one of all, accurate"]),
        (["care.kl_parts=three"], ["care.kl_parts=three", "not one of joint, separate"]),
    ],
    ids=str,
)
def test_refusals(compose_run, overrides, parts):
    with pytest.raises(CareConfigError) as caught:
        check(compose_run("care_seed_bench_r1", *overrides))
    assert len(str(caught.value).splitlines()) == 1
    for part in parts:
        assert part in str(caught.value)
