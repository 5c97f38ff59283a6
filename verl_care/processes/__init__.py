"""What a run asks of the machine beside training: helpers, time limits, workers' environments, shared memory."""
