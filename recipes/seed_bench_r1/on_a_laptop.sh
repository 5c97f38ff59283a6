#!/usr/bin/env bash
# The recipe's first 20 steps on a CPU, with the miniature benchmark and model: bash recipes/seed_bench_r1/on_a_laptop.sh [OUT]
set -euo pipefail
python=${PYTHON:-python}
out=$(realpath -m "${1:-runs/on_a_laptop}")
cd "$(dirname "$0")/../.."

if [ ! -e "$out/seed_bench_r1/validation_L3.parquet" ]; then
    $python -m data_prep.miniature --out "$out/world" --rows 96 --level-rows 32
    $python -m data_prep.seed_bench_r1 "$out/world" --out "$out/seed_bench_r1" --prompt plain
fi

# Smaller: the model and its lengths, the number of steps, vLLM's tables. Larger: the learning rate, for a model of a
# million parameters. Everything else is the recipe's: 4 prompts of 8 responses, sampling, cosine, reference.
VERL_CARE_DATA=$out exec $python -m verl.trainer.main_ppo --config-name care_seed_bench_r1 \
    care/platform=cpu \
    actor_rollout_ref.model.path=recipes/quickstart/checkpoint \
    actor_rollout_ref.actor.optim.lr=5e-5 \
    data.max_prompt_length=192 data.max_response_length=32 \
    actor_rollout_ref.rollout.max_model_len=256 \
    actor_rollout_ref.rollout.max_num_batched_tokens=2048 \
    actor_rollout_ref.rollout.max_num_seqs=64 \
    trainer.total_training_steps=20 trainer.save_freq=10 \
    trainer.default_local_dir="'$out/training'" \
    'trainer.logger=[console,file]' \
    "${@:2}"
