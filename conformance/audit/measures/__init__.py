"""Measurements of the audit: accuracy, inversion, clamps, round trips, models."""
