"""The process and its machine: devices, distribution, random state, signals, files, hashing."""
