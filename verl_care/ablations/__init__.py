"""What the paper compares CARE with, where verl alone does not do it: KL variants and RefGen.

`kl_weights` and `refgen` are pure; `kl_loss` and `choices` put them behind verl's extension points. Plain GRPO, noKL,
KL-EMA and DenseCons need nothing of this: they are settings (`verl_care/config/care/method/`).
"""
