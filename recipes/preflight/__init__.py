"""`python -m recipes.preflight care_seed_bench_r1 [overrides]`: what is known about a run before it trains."""
