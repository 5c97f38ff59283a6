"""A model's answers to a benchmark, through verl's rollout servers: `--config-name care_evaluate`.

command.py      python -m verl_care.evaluation generate CHECKPOINT DATA [overrides]
checkpoint.py   any checkpoint as a Hugging Face folder, and which model a folder holds
questions.py    a data row as a question, and as a `Row` with its response: pure
settings.py     what an answer depends on, written once and compared ever after
run_folder.py   RUN: one run at a time, which samples are still missing
launch.py       before Ray: checks, nothing to do, the progress bar; at the end: what is there
dataset.py      what verl is asked: questions with samples missing
agent_loop.py   where a response is seen first, and written
trainer.py      verl's validation on servers that load the model themselves: no training state
"""
