#!/usr/bin/env bash
# bash recipes/multimodal_open_r1/run.sh [overrides], e.g. actor_rollout_ref.model.path=Qwen/Qwen2.5-VL-7B-Instruct
set -euo pipefail
export VERL_CARE_DATA=${VERL_CARE_DATA:-data}   # holds multimodal_open_r1/, see README.md
python -m recipes.preflight care_multimodal_open_r1 "$@"
exec python -m verl.trainer.main_ppo --config-name care_multimodal_open_r1 "$@"
