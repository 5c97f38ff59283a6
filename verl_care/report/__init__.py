"""See what a model did: one page with its curves, its groups, the frames it saw and what each reward was for."""
