"""Run the laws on the cases, in worker processes, with known failures."""
