#!/usr/bin/env bash
# bash recipes/seed_bench_r1/run.sh [overrides], e.g. care/hardware=8x80gb care/method=no_kl
set -euo pipefail
export VERL_CARE_DATA=${VERL_CARE_DATA:-data}   # holds seed_bench_r1/, see README.md
python -m recipes.preflight care_seed_bench_r1 "$@"
exec python -m verl.trainer.main_ppo --config-name care_seed_bench_r1 "$@"
