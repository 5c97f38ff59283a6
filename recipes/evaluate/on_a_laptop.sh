#!/usr/bin/env bash
# The evaluation of a small model on a CPU, with the miniature benchmark, down to the published tables' layout:
# bash recipes/evaluate/on_a_laptop.sh [CHECKPOINT] [OUT]
set -euo pipefail
python=${PYTHON:-python}
checkpoint=$(realpath -m "${1:-recipes/quickstart/checkpoint}")
out=$(realpath -m "${2:-runs/evaluate_on_a_laptop}")
cd "$(dirname "$0")/../.."

export VERL_CARE_DATA=$out
if [ ! -e "$out/seed_bench_r1/validation_L3.parquet" ]; then
    $python -m data_prep.miniature --out "$out/world" --rows 8 --level-rows 256
    $python -m data_prep.seed_bench_r1 "$out/world" --out "$out/seed_bench_r1" --prompt plain
fi

# Smaller than the release: the model and its lengths. Temperature 1 shows a small model's range; as released it is 0.1.
run=$out/$(basename "$checkpoint")
PYTHON=$python bash recipes/evaluate/run.sh "$checkpoint" seed_bench_r1 "evaluation.run='$run'" \
    care/platform=cpu \
    data.max_prompt_length=192 data.max_response_length=32 \
    actor_rollout_ref.rollout.max_model_len=256 \
    actor_rollout_ref.rollout.max_num_batched_tokens=2048 \
    actor_rollout_ref.rollout.max_num_seqs=64 \
    actor_rollout_ref.rollout.val_kwargs.temperature=1 actor_rollout_ref.rollout.val_kwargs.top_p=1 \
    "${@:3}"
$python -m verl_care.evaluation contradiction "$run"
$python -m verl_care.evaluation agreement "$run" --model recipes/quickstart/checkpoint --prompt plain --max-model-len 1024
$python -m verl_care.evaluation likelihood "$run" --reference recipes/quickstart/checkpoint --data "$out"/seed_bench_r1/validation_L?.parquet

$python -m verl_care.evaluation score "$run"
$python -m verl_care.evaluation score "$run" --layout published --with-published
