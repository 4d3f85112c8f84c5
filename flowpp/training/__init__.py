"""Training: the loop, its state, optimizer, weight averages, batches, resumption and logging."""
