"""The words by which a reasoning concludes, doubts, denies and takes back. Vocabulary of `conclusions`, no more."""

from __future__ import annotations

THEREFORE = frozenset("so therefore thus hence consequently accordingly conclusion overall".split())
NO_THEREFORE = frozenset("that far much many called on long as if".split())
"""Behind "so" these make another word of it."""

ANSWERS = frozenset("answer option choice conclusion pick selection".split())
STEPS = frozenset("step action task move thing one".split())
IS = frozenset("is 's would should must will has".split())
"""Copulas of a conclusion; "could be" and "might be" are none."""
CHOOSING = frozenset("choose select pick boxed".split())
WITH_PREPOSITION = {"go": "with", "going": "with", "settle": "on", "opt": "for", "opting": "for"}
MATCHING = frozenset("matches match corresponds corresponding aligns consistent".split())

BETWEEN = frozenset(
    "a an the option choice letter answer definitely clearly indeed actually really probably likely most logical logically"
    " therefore thus to be been is it that this i we they he she person user should would need needs will must now next then"
    " step action correct right best based on video image frame observation observations current progress in and my final"
    " going go with".split()
)
"""What may stand between a conclusion's cue and the option that it names."""
BEHIND = frozenset(
    "next now first is as here because since given which when where while after before although though but however"
    " unlike rather instead not so and".split()
)
"""With what a text may go on behind an option that it names in full."""

NOT = frozenset(
    "not no never neither nor cannot except excluding exclude excludes eliminate eliminates eliminating eliminated reject"
    " rejecting rejected unlike without wrong incorrect unlikely irrelevant ruled ruling rule excluded than".split()
)
DOUBT = frozenset(
    "maybe perhaps might could may possibly possible thought think tempting say says said saying claim claims claimed"
    " tells told initially unsure unclear doubt either another other one alternative wrong incorrect previous previously"
    " last former question asks ask asking first second third between whether if unless suppose assuming assume supposing"
    " why how distractor trap common mistake guess someone somebody people".split()
)
CONDITION = frozenset("if whether unless suppose supposing assuming assume".split())
TAKING_BACK = frozenset("wait however but actually alternatively hold oops sorry hmm no yet reconsider".split())
WITHDRAWN = frozenset("wrong incorrect mistake mistaken reconsider unsure".split())

ASIDE = frozenset(
    "because since given as after before while whereas although though unlike where when except besides despite".split()
)
"""They open an aside, which says nothing of the conclusion and ends at a comma."""
OPENING = frozenset("but however yet".split()) | ASIDE
"""They begin a clause in the middle of a sentence."""

GOOD = frozenset("correct right answer best".split())
GOOD_WITH_MOST = frozenset(
    "likely logical appropriate suitable plausible fitting accurate reasonable sensible natural probable".split()
)
STANDS_ALONE_NOWHERE = frozenset("yes no true false none both all".split())
"""As an option's whole text these are named by "the answer is", and by nothing weaker."""
LETTER_NOUNS = frozenset("option choice answer letter".split())
EVERYDAY_LETTERS = frozenset("AI")
"""Capital letters that are English words as well."""
