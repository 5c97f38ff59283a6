"""Checkpoints that are whole or not there (saving.py), which are (folders.py), and where a run goes on (resume.py)."""
