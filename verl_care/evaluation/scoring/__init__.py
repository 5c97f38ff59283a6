"""Scores of an evaluation's answers, as pure functions of its rows.

answers.py lenient.py   what a response answers, read to the letter and read generously
relative_accuracy.py    regression
rules.py                the score of one response, and every point where the released evaluation differs
responses.py            all responses of a run as columns
samples.py intervals.py mean@k, maj@k, pass@k; bootstrap and sign test over questions
summary.py comparison.py vsi_bench.py   what is said of a group of questions, of two runs, of VSI-Bench's types
layouts.py tables.py    the tables, and how they are written
"""
