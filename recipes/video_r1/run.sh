#!/usr/bin/env bash
# bash recipes/video_r1/run.sh [overrides], e.g. care/hardware=8x80gb care/method=no_kl
set -euo pipefail
export VERL_CARE_DATA=${VERL_CARE_DATA:-data}   # holds video_r1/, see README.md
python -m recipes.preflight care_video_r1 "$@"
exec python -m verl.trainer.main_ppo --config-name care_video_r1 "$@"
