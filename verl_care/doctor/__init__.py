"""`python -m verl_care.doctor`: can this machine train, and if not, which line mends it?

verl swallows a plug-in that raises, a decoder may install and not load, and /dev/shm fills up unseen.
Each of them stops a run minutes after its start.
"""
