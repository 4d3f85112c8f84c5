"""Process and machine: devices, process groups, random state, signals, files, hashing."""
