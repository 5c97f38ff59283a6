"""SEED-Bench-R1 within lmms-eval: the task, and a Qwen2.5-VL that sees what verl_care's sees."""
