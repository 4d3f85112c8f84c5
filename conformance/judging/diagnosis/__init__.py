"""Hints: the likely cause of a failed law, and a script that reproduces it."""
