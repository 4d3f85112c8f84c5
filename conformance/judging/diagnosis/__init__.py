"""Diagnosis of a failed law: its probable cause, and a script that reproduces it."""
