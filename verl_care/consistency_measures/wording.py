"""The words by which a reasoning concludes, doubts, denies and takes back. Vocabulary of `conclusions`, no more."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


THEREFORE = _words("so therefore thus hence consequently accordingly conclusion overall")
NO_THEREFORE = _words("that far much many called on long as if")
"""Behind "so" these make another word of it."""

ANSWERS = _words("answer option choice conclusion pick selection")
STEPS = _words("step action task move")
IS = _words("is 's would should must will has")
"""Copulas of a conclusion; "could be" and "might be" are none."""
CHOOSING = _words("choose select pick")
ONESELF = _words("i i'd i'll i'm we we'd we'll let's")
"""Who chooses; what others choose in the video is no conclusion."""
WITH_PREPOSITION = {"go": "with", "going": "with", "settle": "on", "opt": "for", "opting": "for"}
MATCHING = _words("matches match corresponds corresponding aligns consistent")

BETWEEN = _words(
    "a an the option choice letter answer definitely clearly indeed actually really probably likely most logical "
    "logically therefore thus to be been is it that this i we they he she person user should would need needs "
    "will must now next then step action correct right best based on video image frame observation observations "
    "current progress in and my final going go with"
)
"""What may stand between a conclusion's cue and the option that it names."""
BEHIND = _words(
    "next now first is as here because since given which when where while after before although though but "
    "however unlike rather instead not so"
)
"""With what a text may go on behind an option that it names in full."""

NOT = _words(
    "not no never neither nor cannot except excluding exclude excludes eliminate eliminates eliminating "
    "eliminated reject rejecting rejected unlike without wrong incorrect unlikely irrelevant ruled ruling rule "
    "excluded than"
)
DOUBT = _words(
    "far maybe perhaps might could may possibly possible thought think tempting say says said saying claim claims "
    "claimed tells told initially unsure unclear doubt either another other one alternative wrong incorrect "
    "previous previously last former question asks ask asking first second third between whether if unless "
    "suppose assuming assume supposing why how distractor trap common mistake guess someone somebody people"
)
CONDITION = _words("if whether unless suppose supposing assuming assume")
TAKING_BACK = _words("wait however but actually alternatively hold oops sorry hmm no yet reconsider")
WITHDRAWN = _words("wrong incorrect mistake mistaken reconsider unsure")

ASIDE = _words(
    "because since given as after before while whereas although though unlike where when except besides despite"
)
"""They open an aside, which says nothing of the conclusion and ends at a comma."""
OPENING = _words("but however yet") | ASIDE
"""They begin a clause in the middle of a sentence."""

GOOD = _words("correct right answer best")
GOOD_WITH_MOST = _words(
    "likely logical appropriate suitable plausible fitting accurate reasonable sensible natural probable"
)
STANDS_ALONE_NOWHERE = _words("yes no true false none both all")
"""As an option's whole text these are named by "the answer is", and by nothing weaker."""
LETTER_NOUNS = _words("option choice answer letter")
EVERYDAY_LETTERS = frozenset("AI")
"""Capital letters that are English words as well."""
