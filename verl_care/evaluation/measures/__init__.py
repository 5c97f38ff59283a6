"""The measures as commands of `python -m verl_care.evaluation`, on a folder of answers."""
