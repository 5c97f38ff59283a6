#!/usr/bin/env bash
# bash recipes/evaluate/run.sh CHECKPOINT DATA [overrides], e.g. runs/seed_bench_r1/global_step_1500 seed_bench_r1
set -euo pipefail
export VERL_CARE_DATA=${VERL_CARE_DATA:-data}   # holds seed_bench_r1/ and video_r1/, see README.md
exec "${PYTHON:-python}" -m verl_care.evaluation generate "$@"
