"""What we rely on in verl and Hydra, a test per seam. A failure says which verl it is and what of ours hangs there."""

import ast
import importlib
import importlib.metadata
import inspect
import re
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch
import verl
from omegaconf import OmegaConf
from verl.single_controller.base.decorator import MAGIC_ATTR, Dispatch
from verl.trainer import main_ppo
from verl.trainer.ppo import core_algos, padding_utils
from verl.trainer.ppo import utils as ppo_utils
from verl.trainer.ppo.utils import Role
from verl.trainer.ppo.v1 import get_trainer_cls, replay_buffer, trainer_base
from verl.trainer.ppo.v1 import utils as v1_utils
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.utils import distributed, tracking
from verl.workers import engine_workers
from verl.workers.engine.base import EngineRegistry

from verl_care import checkpoints, launch
from verl_care.rewards.manager import CareRewardManager
from verl_care.trainer import CareTrainer
from verl_care.workers import CareWorker

SITE = Path(verl.__file__).parent


def seam(holds: object, fact: str, ours: str) -> None:
    assert holds, f"verl {verl.__version__}: {fact} no longer holds, on which rests {ours}"


def source(thing: object) -> str:
    return inspect.getsource(thing)  # type: ignore[arg-type]


def in_order(text: str, *parts: str) -> bool:
    """True if every part is in the text, and each first occurs behind the one before."""
    places = [text.find(part) for part in parts]
    return -1 not in places and places == sorted(places)


def parameters(function: object) -> list[str]:
    return list(inspect.signature(function).parameters)  # type: ignore[arg-type]


# ---------------------------------------------------------------- versions and registration


def test_the_version_that_was_read():
    seam(verl.__version__ == importlib.metadata.version("verl") == "0.9.1", "its version, 0.9.1", "every line here")


def test_what_we_register_is_found():
    seam(get_trainer_cls("care") is CareTrainer, "register_trainer", "trainer.v1.trainer_mode=care")
    seam(
        core_algos.get_adv_estimator_fn("care").__module__ == "verl_care.estimator",
        "register_adv_est",
        "algorithm.adv_estimator=care",
    )
    from verl.experimental.reward_loop.reward_manager import get_reward_manager_cls

    seam(get_reward_manager_cls("care") is CareRewardManager, "register", "reward.reward_manager.name=care")


def test_registrations_wait_for_the_module_that_holds_the_registry():
    """T4: the plug-in imports nothing of verl's trainer, and importing that imports ours."""
    from verl_care import plugin

    for host, ours in plugin.REGISTRATIONS.items():
        importlib.import_module(host)
        seam(ours in sys.modules, f"a module {host}", f"the registration of {ours}")


def test_a_plugin_that_raises_is_swallowed():
    """T3: so `verl_care.doctor` imports ours unswallowed."""
    loop = source(verl).split("for _ep in _discovered:")[1]
    seam(in_order(loop, "_ep.load()", "except Exception", ".debug("), "plugin errors end at DEBUG", "the doctor")
    points = importlib.metadata.entry_points(group="verl.plugins")
    seam("verl_care.plugin" in [point.value for point in points], "the entry point", "everything")


def test_the_task_runner_asks_the_registry():
    """T2, T16."""
    run = source(main_ppo.TaskRunnerV1.__ray_metadata__.modified_class.run)
    seam("get_trainer_cls(config.trainer.v1.trainer_mode)" in run, "the trainer is looked up by name", "CareTrainer")
    seam(in_order(run, "trainer_cls(config=config)", ".init()", ".fit("), "init, then fit", "CareTrainer.fit")


def test_the_callback_comes_before_ray():
    text = source(main_ppo)
    seam('config_path="config", config_name="ppo_trainer"' in text, "main's config module", "--config-name care_base")
    main = source(main_ppo.main)
    seam("run_ppo(config, task_runner_class=TaskRunnerV1)" in main, "Ray starts inside main", "launch.CareRun")


# ---------------------------------------------------------------- trainer hooks

HOOKS = {
    "__init__": ["self", "config"],
    "_build_replay_buffer": ["self"],
    "_init_resource_pool_mgr": ["self"],
    "fit": ["self", "agent_loop_manager"],
    "_compute_ref_log_prob": ["self", "batch", "metrics"],
    "_compute_advantage": ["self", "batch", "metrics"],
    "_update_actor": ["self", "batch", "metrics"],
    "_compute_metrics": ["self", "batch", "metrics", "timing_raw", "global_steps", "epoch"],
    "on_init_end": ["self"],
    "on_step_end": ["self"],
    "_save_checkpoint": ["self"],
    "_load_checkpoint": ["self"],
}


@pytest.mark.parametrize("hook", sorted(HOOKS))
def test_hooks_keep_their_signature(hook):
    found = parameters(getattr(PPOTrainerSync, hook, lambda: None))
    seam(found == HOOKS[hook], f"PPOTrainer.{hook}{tuple(HOOKS[hook])} (it is {tuple(found)})", f"CareTrainer.{hook}")


def test_every_hook_we_override_is_listed():
    theirs = {name for kind in PPOTrainerSync.__mro__ for name in vars(kind)} - set(vars(object))
    overridden = {name for name in vars(CareTrainer) if name in theirs and callable(getattr(CareTrainer, name))}
    assert overridden - {"__init__"} == set(HOOKS) - {"__init__"}


def test_the_steps_of_a_step():
    """The bonus needs reference scores, and comes before advantages; the reference moves after the update."""
    step = source(trainer_base.PPOTrainer._step_once)
    order = (
        "_balance_batch(",
        "_compute_old_log_prob(",
        "_compute_ref_log_prob(",
        "_compute_advantage(",
        "_update_actor(",
    )
    seam(in_order(step, *order), f"the order {order}", "CareTrainer's hooks")
    condition = step.split("batch = self._compute_ref_log_prob")[0].rsplit("if ", 1)[1]
    seam(condition.startswith("self.use_reference_policy:"), "use_reference_policy decides", "scores without KL")


def test_the_checkpoint_is_written_before_the_weight_sync():
    """T1: an EMA in `on_step_end` would be missing from that step's checkpoint."""
    seam(
        in_order(source(trainer_base.PPOTrainer.fit), "self.step(", "self._save_checkpoint()", "self.on_step_end()"),
        "step, checkpoint, on_step_end",
        "the EMA in CareTrainer._update_actor",
    )
    for hook in ("on_init_end", "on_step_end"):
        called = source(getattr(PPOTrainerSync, hook))
        seam("checkpoint_manager.update_weights(" in called, f"{hook} syncs the weights", "weight_sync_timeout_s")


def test_sync_is_a_literal():
    """T2: `CareTrainer.__init__` puts "sync" back before verl's runs."""
    found = re.findall(r'trainer_mode [!=]= "sync"', source(trainer_base))
    seam(len(found) == 6, f"six comparisons with the literal 'sync' (now {len(found)})", "CareTrainer.__init__")
    init = source(trainer_base.PPOTrainer.__init__)
    seam("self.trainer_mode = self.config.trainer.v1.trainer_mode" in init, "the mode is read there", "the same")
    seam("self.use_reference_policy = need_reference_policy(" in init, "use_reference_policy is set there", "the same")


def test_verl_wants_a_reference_only_for_kl():
    """T11."""
    for loss, reward in ((False, False), (True, False), (False, True)):
        config = OmegaConf.create(
            {"algorithm": {"use_kl_in_reward": reward}, "actor_rollout_ref": {"actor": {"use_kl_loss": loss}}}
        )
        seam(ppo_utils.need_reference_policy(config) == (loss or reward), "a reference only for KL", "needs_reference")


def test_the_worker_is_swapped_in_the_mapping():
    """T15."""
    text = source(trainer_base.PPOTrainer._init_resource_pool_mgr)
    seam("self.role_worker_mapping[role] = ray.remote(ActorRolloutRefWorker)" in text, "the mapping", "CareWorker")
    seam('self.mapping[role] = "global_pool"' in text, "the pool of a role", "_init_resource_pool_mgr")
    seam("mapping=self.mapping" in text, "the resource pools share that very dict", "_init_resource_pool_mgr")
    setup = source(trainer_base.PPOTrainer._setup)
    chosen = ("if Role.Actor in", "elif Role.ActorRolloutRef in", "actor_role = Role.ActorRollout\n")
    seam(in_order(setup, *chosen), "the role decides on the reference", "_init_resource_pool_mgr")
    seam(str(Role.ActorRolloutRef) == "actor_rollout_ref", "the role's name", "CareWorker")
    later = in_order(setup, "_init_resource_pool_mgr()", "create_resource_pool()", "get_resource_pool(actor_role)")
    seam(later, "pools are made after the mapping", "_init_resource_pool_mgr")


def test_the_worker_holds_actor_and_reference():
    text = source(engine_workers.ActorRolloutRefWorker.init_model)
    for part in ("self.ref = self.ref_worker_cls(", "self.actor = self.actor_worker_cls("):
        seam(part in text, part, "CareWorker._reference")
    for name in ("actor_worker_cls", "ref_worker_cls"):
        seam(getattr(engine_workers.ActorRolloutRefWorker, name) is engine_workers.TrainingWorker, name, "CareWorker")
    for name in ("update_reference", "save_reference", "load_reference"):
        mode = getattr(getattr(CareWorker, name), MAGIC_ATTR)["dispatch_mode"]
        seam(mode == Dispatch.ONE_TO_ALL, "register() marks methods for all ranks", f"CareWorker.{name}")


def test_the_replay_buffer_reads_its_interval_every_time():
    default = inspect.signature(replay_buffer.ReplayBuffer.__init__).parameters["poll_interval"].default
    seam(default == 2.0, "poll_interval=2.0", "care.replay_poll_interval_s")
    seam("time.sleep(self.poll_interval)" in source(replay_buffer.ReplayBuffer), "it sleeps that long", "the same")


# ---------------------------------------------------------------- a batch


def test_fields_of_compute_advantage():
    """T8: what is put into `rm_scores` before is what advantages are made of."""
    text = source(trainer_base.PPOTrainer._compute_advantage)
    fields = ast.literal_eval(re.search(r"fields = (\[.*?\])", text, re.DOTALL).group(1))
    seam({"uid", "rm_scores", "response_mask"} <= set(fields), f"the fields fetched ({fields})", "_add_bonus")
    seam('data.batch["token_level_scores"] = data.batch["rm_scores"]' in text, "rm_scores are the scores", "_add_bonus")


def test_the_estimators_arguments():
    """T9."""
    seen = {}

    def estimator(**arguments):
        seen.update(arguments)
        return torch.zeros(1, 2), torch.zeros(1, 2)

    data = SimpleNamespace(
        batch={"token_level_rewards": torch.ones(1, 2), "response_mask": torch.ones(1, 2)},
        non_tensor_batch={"uid": np.array(["a"], dtype=object)},
    )
    with mock.patch.dict(core_algos.ADV_ESTIMATOR_REGISTRY, {"spy": estimator}):
        v1_utils.compute_advantage_for_multi_trajectories(data, ["a_0_0"], adv_estimator="spy", config="the config")
    expected = {"token_level_rewards", "response_mask", "index", "config"}
    seam(set(seen) == expected, f"{expected} as arguments (now {set(seen)})", "verl_care.estimator")
    seam(seen["index"].tolist() == ["a"], "index is the uid", "verl_care.estimator")
    seam(torch.equal(data.batch["advantages"], torch.zeros(1, 2)), "its result is used", "verl_care.estimator")


def test_padding_rows():
    """T14: they have the first row's `reward_extra_info`, but a tag and a uid of their own."""
    source_row = {
        "uid": "a",
        "position_ids": torch.zeros(4, 9),
        "multi_modal_inputs": {"pixel_values": 1},
        "extra_fields": {"reward_extra_info": {"accuracy": 1.0}},
    }
    row, tag = padding_utils.construct_minimal_padding_template(source_row, {"seq_len": 9}, eos_token_id=2)
    seam(tag["is_padding"] is True, "the tag is_padding", "_add_bonus skips padding")
    seam(float(row["rm_scores"].sum()) == 0, "padding has no reward", "_add_bonus leaves it alone")
    seam(row["multi_modal_inputs"] == {}, "padding is text only", "compat._mend_visual_embedding")
    seam(tuple(row["position_ids"].shape) == (4, 128), "position ids stay 4 x L", "compat._mend_position_ids")
    seam(
        'template_sample["uid"] = pad_uid' in source(padding_utils.upsample_batch_to_divisible_size),
        "a uid of its own",
        "the group-relative advantage",
    )


def test_reward_extra_info_travels_in_extra_fields():
    from verl.experimental.agent_loop import agent_loop

    text = source(agent_loop)
    seam('extra_fields["reward_extra_info"] = result["reward_extra_info"]' in text, "extra_fields", "_add_bonus")
    seam("rm_scores[-1] = reward_score" in text, "the reward is on the last token", "_add_bonus adds it there")
    validate = source(trainer_base.PPOTrainer._validate)
    seam("reward_extra_info" in validate, "validation reads reward_extra_info", "the manager's `acc`")


def test_the_reference_scores_at_the_rollouts_temperature():
    """T14: so `CareTrainer._compute_ref_log_prob` changes it for the duration of the call."""
    text = source(trainer_base.PPOTrainer._compute_ref_log_prob)
    seam('"temperature": self.config.actor_rollout_ref.rollout.temperature' in text, "it is read there", "scoring at 1")
    seam('data["ref_log_prob"] = response_from_nested(' in text, "ref_log_prob holds response tokens", "answer spans")
    for later in ("_update_actor", "_compute_old_log_prob"):
        again = source(getattr(trainer_base.PPOTrainer, later))
        seam('"temperature": self.config.actor_rollout_ref.rollout.temperature' in again, f"{later} sets its own", "it")


def test_a_forward_only_engine_is_bf16_unless_told():
    """T12: so care_base.yaml says fp32."""
    from verl.workers.engine.fsdp import transformer_impl

    text = source(transformer_impl.FSDPEngine._build_module)
    seam("not self.engine_config.forward_only else torch.bfloat16" in text, "bf16 by default", "ref model_dtype: fp32")


def test_tags_and_keys_of_a_batch():
    seam(
        {"keys", "tags", "partition_id"} <= set(parameters(trainer_base.KVBatchMeta)),
        "KVBatchMeta(keys, tags, partition_id)",
        "_add_bonus",
    )
    import transfer_queue as tq

    seam({"keys", "partition_id", "select_fields"} <= set(parameters(tq.kv_batch_get)), "kv_batch_get", "_add_bonus")
    seam({"keys", "partition_id", "fields"} <= set(parameters(tq.kv_batch_put)), "kv_batch_put", "_add_bonus")


# ---------------------------------------------------------------- data


def test_media_are_asked_of_the_dataset_class():
    """T17: once per response."""
    from verl.experimental.agent_loop import agent_loop
    from verl.utils.dataset.rl_dataset import RLHFDataset

    from verl_care.data.dataset import CareDataset

    asked = source(agent_loop.AgentLoopBase.process_multi_modal_info)
    call = "await self.dataset_cls.process_multi_modal_info(\n"
    seam(call in asked, "the agent loop asks the dataset class", "CareDataset")
    seam("messages, image_patch_size=image_patch_size, config=self.data_config" in asked, "so", "CareDataset")
    for name in ("process_multi_modal_info", "_process_multi_modal_info"):
        theirs, ours = (parameters(getattr(kind, name)) for kind in (RLHFDataset, CareDataset))
        seam(theirs[:3] == ours == ["messages", "image_patch_size", "config"], f"{name}{tuple(ours)}", "CareDataset")


# ---------------------------------------------------------------- checkpoints


def test_names_of_a_checkpoints_files():
    """test_resume.py has verl write them; this says which line changed if it fails there."""
    from verl.utils.checkpoint import fsdp_checkpoint_manager

    text = source(fsdp_checkpoint_manager.FSDPCheckpointManager.save_checkpoint)
    for part in ("model", "optim", "extra_state"):
        name = f'f"{part}_world_size_{{self.world_size}}_rank_{{self.rank}}.pt"'
        seam(name in text, f"the file {name}", "checkpoints.missing_files")
    save = source(trainer_base.PPOTrainer._save_checkpoint)
    for name in ('f"global_step_{self.global_steps}"', '"actor"', '"data.pt"'):
        seam(name in save, f"the name {name}", "checkpoints.missing_files")
    order = ("actor_rollout_wg.save_checkpoint(", "data.pt", '"latest_checkpointed_iteration.txt"')
    seam(in_order(save, *order), "latest_checkpointed_iteration.txt comes last (T13)", "the mark behind it")
    seam(checkpoints.step_of(Path("global_step_7")) == 7, "step_of", "resuming")


def test_resuming_from_a_path():
    text = source(trainer_base.PPOTrainer._load_checkpoint)
    order = ('resume_mode == "resume_path"', "resume_from_path", 'split("global_step_")[-1]', "_wg.load_checkpoint(")
    seam(in_order(text, *order), "resume_path takes the step from the folder's name", "CareTrainer._load_checkpoint")


# ---------------------------------------------------------------- logging


def test_the_progress_bar_can_be_found():
    from tqdm import tqdm

    seam('desc="Training Progress"' in source(trainer_base.PPOTrainer.fit), "its name", "_compute_metrics' postfix")
    seam(trainer_base.tqdm is tqdm, "it is tqdm's own", "the same")
    with tqdm(total=1, desc="Training Progress", disable=False, file=mock.MagicMock()) as bar:
        seam(bar in tqdm._instances, "tqdm._instances lists open bars", "the same")


def test_loggers_take_their_places_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("VERL_FILE_LOGGER_PATH", str(tmp_path / "metrics.jsonl"))
    logger = tracking.FileLogger("project", "experiment")
    logger.log({"care/bonus": np.float32(0.25)}, step=3)
    logger.finish()
    expected = '{"step":3,"data":{"care/bonus":0.25}}\n'
    seam((tmp_path / "metrics.jsonl").read_text() == expected, "VERL_FILE_LOGGER_PATH, its lines", "CareTrainer.fit")
    tracking.FileLogger("project", "experiment").finish()
    seam((tmp_path / "metrics.jsonl").read_text() == "", "it starts its file anew", "fit moves an earlier one away")
    text = source(tracking._TensorboardAdapter)
    seam('os.environ.get("TENSORBOARD_DIR"' in text, "TENSORBOARD_DIR", "CareTrainer.fit")


# ---------------------------------------------------------------- Hydra


def test_hydra_swallows_a_callbacks_exception_but_not_an_exit():
    from hydra._internal.callbacks import Callbacks

    class Raises(launch.CareRun):
        def on_job_start(self, config, **_):
            raise self.error

    callbacks = Callbacks(OmegaConf.create({"hydra": {"callbacks": {}}}))
    callback = Raises()
    callbacks.callbacks = [callback]
    callback.error = ValueError("wrong")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        callbacks.on_job_start(config=OmegaConf.create({}), task_function=lambda: None)
    seam(len(caught) == 1, "Hydra makes a warning of it", "launch.CareRun exits instead")
    callback.error = SystemExit(2)
    with pytest.raises(SystemExit):
        callbacks.on_job_start(config=OmegaConf.create({}), task_function=lambda: None)


def test_our_configs_are_found_from_anywhere(tmp_path):
    """T5, T6: `--config-name care_base` beside verl's own configs. Without importing verl."""
    code = (
        "from hydra._internal.utils import create_config_search_path as path; from hydra.core.plugins import Plugins;"
        "Plugins.instance(); print([p.path for p in path('pkg://verl.trainer.config').get_path()])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    seam("pkg://verl_care.config" in run.stdout, f"the search-path plug-in ({run.stderr[-300:]})", "--config-name")


# ---------------------------------------------------------------- a machine without accelerator


def unpatched_source(relative: str) -> str:
    return (SITE / relative).read_text()


def test_the_backend_that_names_a_device_twice():
    text = unpatched_source("utils/distributed.py")
    line = 'backend = backend or f"cpu:gloo,{get_device_name()}:{get_nccl_backend()}"'
    seam(line in text, "the backend string", "platforms.cpu._one_backend_per_device")
    theirs = text.split("def initialize_global_process_group_ray(")[1].split(")")[0]
    ours = ", ".join(str(p) for p in inspect.signature(distributed.initialize_global_process_group_ray).parameters)
    seam([part.split("=")[0] for part in theirs.split(", ")] == ours.split(", "), "its arguments", "the same")


def test_engines_are_registered_by_device():
    import verl.workers.engine.fsdp  # noqa: F401 - registers

    engines = EngineRegistry._engines["language_model"]["fsdp2"]
    seam({"cuda", "npu"} <= set(engines), "FSDP2 for cuda and npu", "actor.strategy=fsdp2")
    from verl_care import platforms

    if platforms.wants_cpu():
        seam(engines["cpu"].__name__ == "CPUFSDPEngineWithLMHead", "register(device='cpu')", "platforms.cpu")
        seam(EngineRegistry.get_engine_cls("language_model", "fsdp2") is engines["cpu"], "its choice", "platforms.cpu")


def test_vllms_version_is_asked_of_the_distribution():
    text = unpatched_source("third_party/vllm/__init__.py")
    seam("from importlib.metadata import PackageNotFoundError, version" in text, "how it asks", "_answer_for_vllm")
    seam('package_name = "vllm"' in text, "the name it asks for", "platforms.cpu._answer_for_vllm")


def test_what_is_patched_is_still_there():
    """The names in `compat` and `platforms.cpu` that are replaced."""
    for relative, definition, ours in (
        ("utils/tensordict_utils.py", "def maybe_fix_3d_position_ids(data: TensorDict):", "_mend_position_ids"),
        ("utils/tensordict_utils.py", "def nested_tensor_from_tensor_list(", "_mend_position_ids"),
        ("models/transformers/qwen2_vl.py", "def _get_input_embeds(", "_mend_visual_embedding"),
        ("models/transformers/qwen2_vl.py", "= _get_input_embeds(", "_mend_visual_embedding"),
        ("utils/distributed.py", "def initialize_global_process_group_ray(", "_one_backend_per_device"),
        ("workers/engine/fsdp/transformer_impl.py", "CPUOffloadPolicy(pin_memory=True)", "_register_engine"),
    ):
        seam(definition in unpatched_source(relative), f"{relative}: {definition}", ours)
    text = unpatched_source("models/transformers/qwen2_vl.py").split("def _get_input_embeds(")[1].split("):")[0]
    theirs = re.findall(r"^    (\w+)", text, re.MULTILINE)
    ours = parameters(sys.modules["verl_care.compat"]._embed_text_and_vision)
    seam(theirs == ours, f"_get_input_embeds{tuple(theirs)}", "compat._embed_text_and_vision")


@pytest.mark.parametrize("key", ["freeze_vision_tower", "use_prefix_grouper"])
def test_settings_that_verl_accepts_and_ignores(key):
    """T18: config_checks refuses them; once verl's V1 trainer reads one, it can be allowed."""
    read = [
        str(file.relative_to(SITE))
        for folder in ("trainer/ppo/v1", "workers/engine", "workers/utils")
        for file in (SITE / folder).rglob("*.py")
        if re.search(rf"(actor|actor_config|self\.config|engine_config|model_config)\.{key}\b", file.read_text())
    ]
    seam(
        not read and key in unpatched_source("trainer/config/actor/actor.yaml"),
        f"{key} is unread ({read})",
        "the check",
    )
