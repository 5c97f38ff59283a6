"""Does the answer follow from the reasoning? Three measures that need no judge, each higher where it is more so.

contradiction  1 if the reasoning concludes in the answered option, 0 if in another; from the text alone
agreement      1 if a model gives the same answer again from question and reasoning, without the media
likelihood     how likely the reference finds the answer behind its reasoning (`algorithm.consistency`), calibrated

`None` is said wherever a measure cannot tell. All of it is pure. `verl_care.validation` asks it in training, and
`verl_care.evaluation.measures` of a folder of answers.
"""

MEASURES = ("contradiction", "agreement", "likelihood")
