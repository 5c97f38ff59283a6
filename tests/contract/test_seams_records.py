"""What the records of groups, and the report, rely on in verl: a test per seam."""

from verl.experimental.agent_loop import agent_loop, single_turn_agent_loop
from verl.trainer.ppo.v1 import agent_loop_tq, trainer_base
from verl.utils import tracking
from verl.utils.dataset import rl_dataset

from tests.contract.seams import in_order, seam, source

OURS = "records.group_log"
WORKER = agent_loop_tq.AgentLoopWorkerTQ.__ray_metadata__.modified_class  # pyright: ignore[reportAttributeAccessIssue]


def test_a_row_of_the_data_travels_with_its_response():
    postprocess = source(WORKER._agent_loop_postprocess)
    seam(in_order(postprocess, "output.as_dict()", "field.update(kwargs)", "kv_batch_put("), "kwargs are fields", OURS)
    item = source(rl_dataset.RLHFDataset.__getitem__)
    seam('row_dict["raw_prompt"] = self._build_messages(' in item, "raw_prompt names clips by their paths", OURS)
    kept = [name for name in ("extra_info", "reward_model", "data_source") if f'row_dict.pop("{name}"' in item]
    seam(not kept, f"rows keep extra_info, reward_model, data_source (without {kept})", OURS)


def test_what_an_agent_loop_adds_is_kept():
    loop = source(single_turn_agent_loop.SingleTurnAgentLoop.run)
    seam("extra_fields=output.extra_fields" in loop, "its output has extra_fields", "the times of frames")
    seam(
        'setdefault("extra_fields", self.extra_fields' in source(agent_loop.AgentLoopOutput.as_dict),
        "and keeps them",
        OURS,
    )


def test_advantages_are_in_the_queue_when_they_are_computed():
    text = source(trainer_base.PPOTrainer._compute_advantage)
    order = ('fields = ["advantages", "returns"]', "response_to_nested(", "tq.kv_batch_put(")
    seam(in_order(text, *order), "advantages are put there", OURS)


def test_keys_name_prompt_session_and_row():
    postprocess = source(WORKER._agent_loop_postprocess)
    seam('f"{uid}_{session_id}_{i}"' in postprocess, "a key is {uid}_{session}_{index}", "group_log, report.dumps")


def test_lines_of_the_file_logger():
    text = source(tracking.FileLogger)
    seam('{"step": step, "data": data}' in text, "a line is {step, data}", "report.metrics")
    seam('"wb"' in text, "it starts its file anew", "CareTrainer.fit, report.metrics")


def test_dumps_of_responses():
    write = source(trainer_base.PPOTrainer._write_generations)
    for name in ('"input"', '"output"', '"gts"', '"score"', 'f"{global_steps}.jsonl"'):
        seam(name in write, f"a dump has {name}", "report.dumps")
    seam('{"uid": dump_all_keys}' in source(trainer_base.PPOTrainer._validate), "uid is the key", "report.dumps")


def test_names_of_validation_metrics():
    text = source(trainer_base.PPOTrainer._val_metrics_update)
    seam('f"{metric_sec}/{data_source}/{var_name}/{metric_name}"' in text, "their names", "report.metrics")
    seam('"val-core"' in text and '"val-aux"' in text, "val-core, val-aux", "report.metrics")
