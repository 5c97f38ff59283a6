"""What we rely on in verl's workers and engines, a test per seam."""

from verl.single_controller.base.decorator import MAGIC_ATTR, Dispatch
from verl.trainer.ppo.utils import Role
from verl.trainer.ppo.v1 import trainer_base
from verl.workers import engine_workers
from verl.workers.engine.base import EngineRegistry

from tests.contract.seams import in_order, seam, source
from verl_care.workers import CareWorker


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
    for name in ("init_model", "update_reference", "save_reference", "load_reference"):
        mode = getattr(getattr(CareWorker, name), MAGIC_ATTR)["dispatch_mode"]
        seam(mode == Dispatch.ONE_TO_ALL, "register() marks methods for all ranks", f"CareWorker.{name}")


def test_a_forward_only_engine_is_bf16_unless_told():
    """T12: so care_base.yaml says fp32."""
    from verl.workers.engine.fsdp import transformer_impl

    text = source(transformer_impl.FSDPEngine._build_module)
    seam("not self.engine_config.forward_only else torch.bfloat16" in text, "bf16 by default", "ref model_dtype: fp32")


def test_engines_are_registered_by_device():
    import verl.workers.engine.fsdp  # noqa: F401 - registers

    engines = EngineRegistry._engines["language_model"]["fsdp2"]
    seam({"cuda", "npu"} <= set(engines), "FSDP2 for cuda and npu", "actor.strategy=fsdp2")
    from verl_care import platforms

    if platforms.wants_cpu():
        seam(engines["cpu"].__name__ == "CPUFSDPEngineWithLMHead", "register(device='cpu')", "platforms.cpu")
        seam(EngineRegistry.get_engine_cls("language_model", "fsdp2") is engines["cpu"], "its choice", "platforms.cpu")
