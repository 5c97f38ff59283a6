"""GRPO-CARE itself, as pure functions with the paper's symbols: nothing in here knows of verl, Ray or a model.

`spans` finds the answer in a response, `consistency` makes its likelihood and the bonus, `advantage` compares rewards
within a group, `ema` moves the reference, and `metrics` says what came of it.
"""
