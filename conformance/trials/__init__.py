"""Trials: build an implementation for a case, time-limited, and search for inputs that fail."""
