"""lmms-eval with this folder's task, with its model, and with Qwen's positions mended.

    python -m recipes.lmms_eval --model qwen2_5_vl_care --tasks seed_bench_r1 ...

Every argument is lmms-eval's. The positions are those of `verl_care.positions`, for its own `qwen2_5_vl` too.
"""

from __future__ import annotations

import sys
from pathlib import Path

from lmms_eval.cli.dispatch import main
from lmms_eval.models import MODEL_REGISTRY_V2
from lmms_eval.models.registry_v2 import ModelManifest

from verl_care import compat

if __name__ == "__main__":
    compat.mend_positions()
    MODEL_REGISTRY_V2.register_manifest(
        ModelManifest(model_id="qwen2_5_vl_care", chat_class_path="recipes.lmms_eval.model.CareQwen2_5_VL")
    )
    sys.argv[1:1] = ["--include_path", str(Path(__file__).parent)]
    main()
