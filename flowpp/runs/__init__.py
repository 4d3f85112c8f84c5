"""Files of a run: directory, checkpoints, environment, and how to open them."""
