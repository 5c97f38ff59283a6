"""Evaluation: answers to a benchmark's questions, their scores, and whether the reasoning supports them."""
