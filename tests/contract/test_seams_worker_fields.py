"""What `worker_fields` relies on: a worker fetches the columns that a batch names, and reads none that we leave out."""

import inspect
import re
from pathlib import Path

from transfer_queue.metadata import BatchMeta
from verl.utils import transferqueue_utils

import verl_care
from tests.contract.seams import SITE, seam, source
from verl_care.worker_fields import UNREAD

READ = re.compile(r"""\b(?:data|batch|\w+_batch|tensordict|td)(?:\.get|\.pop)?[\[(]\s*["'](\w+)["']""")
PASSES = (
    "workers/engine",
    "workers/engine_workers.py",
    "workers/utils",
    "trainer/ppo/core_algos.py",
    "trainer/distillation",
)
OURS = ("packing", "ablations/choices.py", "on_policy.py", "workers.py")


def test_a_worker_fetches_the_columns_that_the_batch_names():
    fetch = source(transferqueue_utils.async_kv_batch_meta2batch_meta)
    seam("batch_meta.select_fields(fields)" in fetch, "a worker selects batch.fields", "worker_fields")
    seam("if field_name in self.field_schema" in source(BatchMeta.select_fields), "unknown names are skipped", "it")
    seam(isinstance(inspect.getattr_static(BatchMeta, "field_names"), property), "BatchMeta.field_names", "it")


def sources():
    ours = Path(verl_care.__file__).parent
    for path in [*(SITE / name for name in PASSES), *(ours / name for name in OURS)]:
        yield from path.rglob("*.py") if path.is_dir() else [path]


def test_no_pass_reads_what_is_left_out():
    read = {name: path for path in sources() for name in READ.findall(path.read_text())}
    assert {"input_ids", "response_mask", "multi_modal_inputs", "advantages"} <= set(read)  # so it is found where it is
    for name in UNREAD:
        seam(name not in read, f"no pass reads {name!r} ({read.get(name)} does)", "worker_fields.UNREAD")
