"""A language model judges whether a response's reasoning supports its answer.

quoting.py   hostile text as data that nothing in it can end
prompts.py   what a judge is asked; prompts/ holds the versions
verdict.py   how a judge's reply is read, strictly
server.py    one request: time limit, retries
cache.py     replies on disk
judging.py   which responses are asked about, many at a time, and where the verdicts go
summary.py   the table at the end
command.py   python -m verl_care.evaluation judge
"""
