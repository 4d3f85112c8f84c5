"""Training: the loop, its state, optimizer, averages, batches, resumption and logging."""
